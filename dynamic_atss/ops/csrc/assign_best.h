// Finds the k best pairs of a box.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "assign.h"
#include "vectors.h"

namespace dynamic_atss {

// Gives an integer that sorts like the number. As in torch.sort, NaN is the largest, and -0 is 0.
ALWAYS_INLINE int32_t order_of(float x) {
  const auto bits = __builtin_bit_cast(int32_t, x + 0.0f);
  return x != x ? INT32_MAX : bits ^ (bits < 0 ? INT32_MAX : 0);
}
ALWAYS_INLINE int64_t order_of(double x) {
  const auto bits = __builtin_bit_cast(int64_t, x + 0.0);
  return x != x ? INT64_MAX : bits ^ (bits < 0 ? INT64_MAX : 0);
}

// Sorts the best first. Of equal scores, takes the first.
template <typename T>
class Best {
 public:
  explicit Best(int64_t k) : k_(k), most_((k + kLanes - 1) / kLanes * kLanes) {}

  // Writes the places of the best of `score(0)` to `score(count - 1)`. Returns their number, at
  // most k.
  template <typename Score>
  ALWAYS_INLINE int64_t find(int64_t count, const Score& score, int64_t* places) {
    order_.resize(std::max<size_t>(order_.size(), count));
    likely_.resize(order_.size());
    for (int64_t i = 0; i < count; ++i) order_[i] = order_of(score(i));
    const int64_t likely = sieve(count, bound(count));
    int64_t size = 0;
    for (int64_t n = 0; n < likely; ++n) {
      const int64_t i = likely_[n];
      if (size == k_ && order_[i] <= order_[places[size - 1]]) continue;
      int64_t at = size < k_ ? size++ : size - 1;
      for (; at > 0 && order_[i] > order_[places[at - 1]]; --at) places[at] = places[at - 1];
      places[at] = i;
    }
    return size;
  }

 private:
  using Order = decltype(order_of(T()));
  static constexpr int64_t kLanes = 16;

  // Gives a lower bound of the k-th best score: the minimum over at least k lanes of each lane's
  // maximum. It excludes most pairs from the insertion, whose branches are hard to predict.
  ALWAYS_INLINE Order bound(int64_t count) {
    if (count < 2 * most_) return std::numeric_limits<Order>::min();
    lanes_.assign(order_.begin(), order_.begin() + most_);
    Order* __restrict__ const lane = lanes_.data();
    for (int64_t first = most_; first + most_ <= count; first += most_) {
      const Order* const order = order_.data() + first;
      for (int64_t i = 0; i < most_; ++i) lane[i] = order[i] > lane[i] ? order[i] : lane[i];
    }
    return *std::min_element(lanes_.begin(), lanes_.end());
  }

  // Lists the pairs that reach the bound.
  ALWAYS_INLINE int64_t sieve(int64_t count, Order bound) {
    int64_t size = 0;
    for (int64_t i = 0; i < count; ++i) {
      likely_[size] = i;
      size += order_[i] >= bound;
    }
    return size;
  }

  const int64_t k_, most_;
  std::vector<Order> order_, lanes_;
  std::vector<int64_t> likely_;
};

}  // namespace dynamic_atss
