// Helpers of the kernels for label assignment.
//
// Results of +, -, * and / are bitwise equal to those of the plain PyTorch references on any
// processor. So no multiplication may be contracted with an addition. Exponentials, logarithms and
// the square roots of PyTorch's vector libraries may differ in the last digit. Sums of many numbers
// may, too, because their order differs.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "tensors.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

namespace dynamic_atss {

// One feature level's lattice; `first` is the index of its first location.
struct Level {
  int64_t height, width, stride, first;

  int64_t locations() const { return height * width; }
};

// Up to this size, multiples of half a stride are exact in float32.
constexpr int64_t kLargest = int64_t{1} << 22;

// Checks the limits of the search's arithmetic and memory.
inline void require_search(int64_t k, double offset) {
  require(k > 0 && k <= 65536, "k is not between 1 and 65536");
  require(offset >= -1024 && offset <= 1024, "offset is not between -1024 and 1024");
}

// Reads levels from height, width and stride of each level in one list.
inline std::vector<Level> levels_of(const std::vector<int64_t>& flat) {
  require(flat.size() % 3 == 0, "levels are not threes of height, width and stride");
  std::vector<Level> levels;
  int64_t first = 0;
  for (size_t i = 0; i < flat.size(); i += 3) {
    levels.push_back({flat[i], flat[i + 1], flat[i + 2], first});
    require(flat[i] >= 0 && flat[i + 1] >= 0 && flat[i + 2] > 0,
            "a level has a negative size or a stride below 1");
    require(std::max({flat[i], flat[i + 1], flat[i + 2]}) <= kLargest &&
                levels.back().locations() <= INT32_MAX,
            "a level is too large");
    first += levels.back().locations();
  }
  return levels;
}

inline int64_t locations_of(const std::vector<Level>& levels) {
  return levels.empty() ? 0 : levels.back().first + levels.back().locations();
}

// Gives the number of anchors per location.
inline int64_t anchors_of(const std::vector<Level>& levels, int64_t priors) {
  const int64_t places = locations_of(levels);
  require(places ? priors % places == 0 : priors == 0,
          "the number of priors, " + std::to_string(priors) +
              ", is not a multiple of the levels' " + std::to_string(places) + " locations");
  return places ? priors / places : 1;
}

// Calls `run` with a 0 of the tensor's type, float or double.
template <typename Run>
auto with_floats(const Tensor& x, const char* name, const Run& run) {
  if (x.scalar_type() == ScalarType::Double) return run(double());
  require(x.scalar_type() == ScalarType::Float, std::string(name) + " must be float32 or float64");
  return run(float());
}

// Gives access to the elements of x in row-major order. Copies x if it is not contiguous.
template <typename T>
class __attribute__((visibility("hidden"))) Values {
 public:
  Values(const Tensor& x, const char* name)
      : kept_(x.is_contiguous() ? x : torch::stable::contiguous(x)),
        data_(static_cast<const T*>(kept_.const_data_ptr())) {
    require_type(x,
                 std::is_same_v<T, double>    ? ScalarType::Double
                 : std::is_same_v<T, float>   ? ScalarType::Float
                 : std::is_same_v<T, int64_t> ? ScalarType::Long
                                              : ScalarType::Bool,
                 name);
  }

  const T& operator[](int64_t i) const { return data_[i]; }
  const T* data() const { return data_; }

 private:
  Tensor kept_;
  const T* data_;
};

template <typename T>
T* mutable_values(Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// Tests whether all values are from 0 to limit - 1.
inline bool within(const Values<int64_t>& values, int64_t count, int64_t limit) {
  return std::all_of(values.data(), values.data() + count,
                     [=](int64_t x) { return x >= 0 && x < limit; });
}

// Requires that x is (rows, columns).
inline void require_columns(const Tensor& x, int64_t columns, const char* name) {
  require(x.dim() == 2 && x.size(1) == columns, std::string(name) + " has shape " + shape_of(x) +
                                                    ", not (rows, " + std::to_string(columns) +
                                                    ")");
}

// Gives how many pairs an element of `box` stands for. Either `box` is (T, 1) and `other` is (T,
// K), or both are (M,).
inline int64_t pairs_of_each(const Tensor& box, const Tensor& other, const char* name) {
  const bool rows = box.dim() == 2 && other.dim() == 2 && box.size(1) == 1;
  const bool list = box.dim() == 1 && other.dim() == 1;
  require((rows || list) && box.size(0) == other.size(0),
          "box " + shape_of(box) + " and " + name + " " + shape_of(other) +
              " are neither (T, 1) and (T, K) nor both (M,)");
  return rows ? other.size(1) : 1;
}

inline void require_same_shape(const Tensor& x, const Tensor& other, const char* name) {
  bool same = x.dim() == other.dim();
  for (int64_t i = 0; same && i < x.dim(); ++i) same = x.size(i) == other.size(i);
  require(same, std::string(name) + " has shape " + shape_of(x) + ", not " + shape_of(other));
}

}  // namespace dynamic_atss
