// The priors that one box looks at, side by side, and the best pairs of all boxes.
#pragma once

#include <array>
#include <vector>

#include "assign.h"
#include "vectors.h"

namespace dynamic_atss {

// The numbers of the priors that are added, and kKinds boxes of each (its own, what it predicts),
// one after the other, as vectors take them.
template <typename T, int kKinds>
class Candidates {
 public:
  // Empty, and with room for so many.
  void reset(int64_t most) {
    size_ = 0;
    if (static_cast<int64_t>(prior_.size()) >= most) return;
    prior_.resize(most);
    for (auto& boxes : boxes_) boxes.resize(4 * most);
  }

  // Those numbered from `first` on, of boxes (P, 4) of each kind.
  ALWAYS_INLINE void add(int64_t first, int64_t count, const std::array<const T*, kKinds>& from) {
    for (int64_t i = 0; i < count; ++i) prior_[size_ + i] = first + i;
    for (int kind = 0; kind < kKinds; ++kind) {
      std::copy_n(from[kind] + 4 * first, 4 * count, boxes_[kind].data() + 4 * size_);
    }
    size_ += count;
  }

  int64_t size() const { return size_; }
  int64_t prior(int64_t i) const { return prior_[i]; }
  const T* boxes(int kind) const { return boxes_[kind].data(); }

 private:
  int64_t size_ = 0;
  std::vector<int64_t> prior_;
  std::array<std::vector<T>, kKinds> boxes_;
};

// Of each of `rows` boxes k pairs, best first; zeros where there are fewer.
struct __attribute__((visibility("hidden"))) BestPairs {
  Tensor prior, flat, exists;

  BestPairs(const Tensor& like, int64_t rows, int64_t k)
      : prior(blank(like, rows, k, ScalarType::Long)),
        flat(blank(like, rows, k, ScalarType::Long)),
        exists(blank(like, rows, k, ScalarType::Bool)),
        prior_(mutable_values<int64_t>(prior)),
        flat_(mutable_values<int64_t>(flat)),
        exists_(mutable_values<bool>(exists)) {}

  static Tensor blank(const Tensor& like, int64_t rows, int64_t k, ScalarType type) {
    Tensor x = torch::stable::new_empty(like, {rows, k}, type);
    std::fill_n(static_cast<char*>(x.mutable_data_ptr()), x.numel() * x.element_size(), 0);
    return x;
  }

  // A prior of the image whose own begin at `first`.
  void set(int64_t place, int64_t number, int64_t first) const {
    prior_[place] = number;
    flat_[place] = first + number;
    exists_[place] = true;
  }

 private:
  int64_t *prior_, *flat_;
  bool* exists_;
};

}  // namespace dynamic_atss
