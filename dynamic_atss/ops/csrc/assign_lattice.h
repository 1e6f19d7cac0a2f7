// Finds the locations of a level around a point by arithmetic on its lattice.
#pragma once

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "assign.h"
#include "vectors.h"

namespace dynamic_atss {

// Finds the lines (columns or rows) of a level nearest to a coordinate.
template <typename T>
class Lines {
 public:
  explicit Lines(int64_t most) : low_(most + 1), line_(most), distance_(most) {}

  // Finds the `most` lines nearest to x in a level with `count` lines. The n-th nearest is the line
  // that a window of n nearest lines adds to the window of n - 1. Lines beyond `count` do not
  // exist.
  ALWAYS_INLINE void find(T x, int64_t count, T stride, float offset) {
    const T u = x / stride;
    nan_ = u != u;
    count_ = count;
    const auto all = static_cast<int32_t>(count), most = static_cast<int32_t>(line_.size());
    int32_t* const __restrict__ low = low_.data();
    for (int32_t n = 0; n <= most; ++n) {
      const T begin = u - static_cast<T>(offset + static_cast<float>(n) / 2);
      const T limit = static_cast<T>(all > n ? all - n : 0);
      const T within = begin > 0 ? (begin > limit ? limit : begin) : 0;
      const auto line = static_cast<int32_t>(within);
      low[n] = line + (static_cast<T>(line) < within);  // rounded up
    }
    int32_t* const __restrict__ line = line_.data();
    T* const __restrict__ distance = distance_.data();
    for (int32_t n = 0; n < most; ++n) {
      line[n] = low[n + 1] < low[n] ? low[n + 1] : low[n + 1] + n;
      const T away = (static_cast<T>(line[n]) + static_cast<T>(offset)) * stride - x;
      distance[n] = n < all ? away * away : std::numeric_limits<T>::infinity();
    }
  }

  bool nan() const { return nan_; }
  int64_t count() const { return count_; }
  int64_t low(int64_t window) const { return low_[window]; }  // first line of a window
  int64_t line(int64_t rank) const { return line_[rank]; }    // the rank-th nearest, from 0
  T distance(int64_t rank) const { return distance_[rank]; }  // squared; inf: no such line

 private:
  bool nan_ = false;
  int64_t count_ = 0;
  std::vector<int32_t> low_, line_;
  std::vector<T> distance_;
};

// Lists the locations around points: k / (rank + 1) nearest columns of the rank-th nearest row, or
// all k columns in a square.
template <typename T>
class RuleWrapper {
 public:
  RuleWrapper(int64_t k, bool square) : columns_(k, k), rank_(k), x_(k), y_(k) {
    for (int64_t rank = 1; rank < k && !square; ++rank) columns_[rank] = k / (rank + 1);
  }

  // Gives the maximum number of locations on a level.
  int64_t size() const { return std::accumulate(columns_.begin(), columns_.end(), int64_t{0}); }

  // Calls `run(first location, number of locations)` for each row, in the order of the indices.
  template <typename Run>
  ALWAYS_INLINE void each_row(T x, T y, const Level& level, float offset, const Run& run) {
    const auto stride = static_cast<T>(level.stride);
    x_.find(x, level.width, stride, offset);
    y_.find(y, level.height, stride, offset);
    if (!std::isfinite(x_.distance(0) + y_.distance(0))) return;
    const int64_t rows = std::min(static_cast<int64_t>(columns_.size()), level.height);
    const int64_t top = y_.low(rows);
    for (int64_t b = 0; b < rows; ++b) rank_[y_.line(b) - top] = b;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t window = std::min(columns_[rank_[row]], level.width);
      run(level.first + (top + row) * level.width + x_.low(window), window);
    }
  }

 private:
  std::vector<int64_t> columns_;  // number of columns by rank of the row
  std::vector<int64_t> rank_;     // rank of each row, from the top
  Lines<T> x_, y_;
};

}  // namespace dynamic_atss
