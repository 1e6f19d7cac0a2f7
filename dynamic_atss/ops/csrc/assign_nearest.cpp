// Locations of the levels' lattices near given points; see dynamic_atss/assigners/nearest.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>

#include "assign.h"
#include "vectors.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 64;  // points of a task: some 30 us

// The lines (columns or rows) of one level nearest to a place.
template <typename T>
class Lines {
 public:
  explicit Lines(int64_t most) : low_(most + 1), line_(most), distance_(most) {}

  // The `most` lines nearest to x of a level with `count` lines, by windows of n lines: the n-th
  // nearest is the one by which that of n exceeds that of n - 1. With fewer, the last do not exist.
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
  int64_t low(int64_t window) const { return low_[window]; }  // where a window begins
  int64_t line(int64_t rank) const { return line_[rank]; }    // the rank-th nearest, from 0
  T distance(int64_t rank) const { return distance_[rank]; }  // squared; inf: there is none

 private:
  bool nan_ = false;
  int64_t count_ = 0;
  std::vector<int32_t> low_, line_;
  std::vector<T> distance_;
};

// How many of the nearest columns the row of each rank takes, and rows of the columns.
std::vector<int64_t> widths(int64_t k, bool square) {
  std::vector<int64_t> result(k, k);
  for (int64_t rank = 1; rank < k && !square; ++rank) result[rank] = k / (rank + 1);
  return result;
}

// Floats that are not negative sort as their bits do: one integer holds the distance and, for ties,
// the index.
int64_t key_of(float distance, int64_t index) {
  uint32_t bits;
  std::memcpy(&bits, &distance, sizeof bits);
  return static_cast<int64_t>(bits) << 32 | index;
}

// The `kept` smallest keys of the locations of which the k nearest are some, in order.
ALWAYS_INLINE void nearest_of(const Lines<float>& x, const Lines<float>& y,
                              const std::vector<int64_t>& rows, int64_t kept, int64_t* keys) {
  int64_t size = 0;
  for (int64_t a = 0; a < static_cast<int64_t>(rows.size()); ++a) {
    for (int64_t b = 0; b < rows[a]; ++b) {
      const int64_t key = key_of(x.distance(a) + y.distance(b), y.line(b) * x.count() + x.line(a));
      if (size == kept && key >= keys[size - 1]) continue;
      int64_t at = size < kept ? size++ : size - 1;
      for (; at > 0 && keys[at - 1] > key; --at) keys[at] = keys[at - 1];
      keys[at] = key;
    }
  }
}

Tensor nearest_locations(const Tensor& points, std::vector<int64_t> flat_levels, double offset,
                         int64_t k) {
  require_columns(points, 2, "points");
  require_search(k, offset);
  const auto levels = levels_of(flat_levels);
  const Values<float> xy(points, "points");
  int64_t columns = 0;
  for (const Level& level : levels) columns += std::min(k, level.locations());
  const int64_t count = points.size(0);
  Tensor result = torch::stable::new_empty(points, {count, columns}, ScalarType::Long);
  int64_t* const out = mutable_values<int64_t>(result);
  const std::vector<int64_t> rows = widths(k, /*square=*/false);
  const auto search = [&](int64_t begin, int64_t end) INLINED {
    Lines<float> x(k), y(k);
    std::vector<int64_t> keys(k);
    for (int64_t t = begin; t < end; ++t) {
      int64_t* row = out + t * columns;
      for (const Level& level : levels) {
        const auto stride = static_cast<float>(level.stride);
        const int64_t kept = std::min(k, level.locations());
        if (kept == 0) continue;
        x.find(xy[2 * t], level.width, stride, static_cast<float>(offset));
        y.find(xy[2 * t + 1], level.height, stride, static_cast<float>(offset));
        if (x.nan() || y.nan()) {
          row = std::fill_n(row, kept, level.first);
          continue;
        }
        nearest_of(x, y, rows, kept, keys.data());
        for (int64_t i = 0; i < kept; ++i) *row++ = level.first + (keys[i] & 0xFFFFFFFF);
      }
    }
  };
  torch::stable::parallel_for(0, count, kGrain,
                              [&](int64_t begin, int64_t end) { with_widest(search, begin, end); });
  return result;
}

// The locations around a point on one level, by index, and then those that there are not.
template <typename T>
ALWAYS_INLINE void around(const Lines<T>& x, const Lines<T>& y, const Level& level,
                          const std::vector<int64_t>& columns, std::vector<int64_t>& rank,
                          int64_t* location, bool* exists) {
  const int64_t rows = std::min(static_cast<int64_t>(columns.size()), level.height);
  const int64_t top = y.low(rows);
  for (int64_t b = 0; b < rows; ++b) rank[y.line(b) - top] = b;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t window = std::min(columns[rank[row]], level.width);
    const int64_t left = x.low(window);
    for (int64_t column = left; column < left + window; ++column) {
      *location++ = level.first + (top + row) * level.width + column;
      *exists++ = true;
    }
  }
}

template <typename T>
void around_all(const Tensor& points, const std::vector<Level>& levels, float offset,
                const std::vector<int64_t>& columns, int64_t each, int64_t* location,
                bool* exists) {
  const Values<T> xy(points, "points");
  const auto k = static_cast<int64_t>(columns.size());
  const int64_t size = each * static_cast<int64_t>(levels.size());
  std::fill_n(location, points.size(0) * size, 0);
  std::fill_n(exists, points.size(0) * size, false);
  const auto search = [&](int64_t begin, int64_t end) INLINED {
    Lines<T> x(k), y(k);
    std::vector<int64_t> rank(k);
    for (int64_t t = begin; t < end; ++t) {
      for (size_t i = 0; i < levels.size(); ++i) {
        const Level& level = levels[i];
        const int64_t at = t * size + static_cast<int64_t>(i) * each;
        const auto stride = static_cast<T>(level.stride);
        x.find(xy[2 * t], level.width, stride, offset);
        y.find(xy[2 * t + 1], level.height, stride, offset);
        if (!std::isfinite(x.distance(0) + y.distance(0))) continue;
        around(x, y, level, columns, rank, location + at, exists + at);
      }
    }
  };
  torch::stable::parallel_for(0, points.size(0), kGrain,
                              [&](int64_t begin, int64_t end) { with_widest(search, begin, end); });
}

std::tuple<Tensor, Tensor> locations_around(const Tensor& points, std::vector<int64_t> flat_levels,
                                            double offset, int64_t k, bool square) {
  require_columns(points, 2, "points");
  require_search(k, offset);
  const auto levels = levels_of(flat_levels);
  const std::vector<int64_t> columns = widths(k, square);  // of the rows
  const int64_t each = std::accumulate(columns.begin(), columns.end(), int64_t{0});
  const int64_t size = each * static_cast<int64_t>(levels.size());
  Tensor location = torch::stable::new_empty(points, {points.size(0), size}, ScalarType::Long);
  Tensor exists = torch::stable::new_empty(points, {points.size(0), size}, ScalarType::Bool);
  with_floats(points, "points", [&](auto zero) {
    around_all<decltype(zero)>(points, levels, static_cast<float>(offset), columns, each,
                               mutable_values<int64_t>(location), mutable_values<bool>(exists));
  });
  return {location, exists};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("nearest_locations", TORCH_BOX(&nearest_locations));
  m.impl("locations_around", TORCH_BOX(&locations_around));
}

}  // namespace dynamic_atss
