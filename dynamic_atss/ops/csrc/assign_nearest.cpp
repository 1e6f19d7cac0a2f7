// Locations of the levels' lattices near given points; see dynamic_atss/assigners/nearest.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "assign.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 512;  // points of a task: some 400 us

// The lines (columns or rows) of one level nearest to a place.
template <typename T>
class Lines {
 public:
  explicit Lines(int64_t most) : low_(most + 1), line_(most), distance_(most) {}

  // The `most` lines nearest to x of a level with `count` lines, by windows of n lines: the n-th
  // nearest is the one by which that of n exceeds that of n - 1. With fewer, the last do not exist.
  void find(T x, int64_t count, T stride, float offset) {
    const T u = x / stride;
    nan_ = u != u;
    count_ = count;
    for (size_t n = 0; n < low_.size(); ++n) low_[n] = begin(u, offset, static_cast<int64_t>(n));
    for (size_t n = 0; n < line_.size(); ++n) {
      line_[n] = low_[n + 1] < low_[n] ? low_[n + 1] : low_[n + 1] + static_cast<int64_t>(n);
      const T away = (static_cast<T>(line_[n]) + static_cast<T>(offset)) * stride - x;
      distance_[n] = away * away;
      if (static_cast<int64_t>(n) >= count) distance_[n] = std::numeric_limits<T>::infinity();
    }
  }

  bool nan() const { return nan_; }
  int64_t count() const { return count_; }
  int64_t low(int64_t window) const { return low_[window]; }  // where a window begins
  int64_t line(int64_t rank) const { return line_[rank]; }    // the rank-th nearest, from 0
  T distance(int64_t rank) const { return distance_[rank]; }  // squared; inf: there is none

 private:
  int64_t begin(T u, float offset, int64_t window) const {
    const T low = u - static_cast<T>(offset + static_cast<float>(window) / 2);
    const int64_t limit = std::max<int64_t>(count_ - window, 0);
    if (!(low > 0)) return 0;
    if (low > static_cast<T>(limit)) return limit;
    const auto line = static_cast<int64_t>(low);
    return line + (static_cast<T>(line) < low);  // rounded up; std::ceil may be a call
  }

  bool nan_ = false;
  int64_t count_ = 0;
  std::vector<int64_t> low_, line_;
  std::vector<T> distance_;
};

// Floats that are not negative sort as their bits do: one integer holds the distance and, for ties,
// the index.
int64_t key_of(float distance, int64_t index) {
  uint32_t bits;
  std::memcpy(&bits, &distance, sizeof bits);
  return static_cast<int64_t>(bits) << 32 | index;
}

// The `kept` smallest keys of the locations of which the k nearest are some, in order.
void nearest_of(const Lines<float>& x, const Lines<float>& y, int64_t k, int64_t kept,
                int64_t* keys) {
  int64_t size = 0;
  for (int64_t a = 0; a < k; ++a) {
    for (int64_t b = 0; b < k / (a + 1); ++b) {
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
  torch::stable::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
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
        nearest_of(x, y, k, kept, keys.data());
        for (int64_t i = 0; i < kept; ++i) *row++ = level.first + (keys[i] & 0xFFFFFFFF);
      }
    }
  });
  return result;
}

// How many of the nearest columns the row of rank `row` takes.
int64_t columns_of(int64_t row, int64_t k, bool square) { return square ? k : k / (row + 1); }

// The locations around a point on one level, by index, and then those that there are not.
template <typename T>
void around(const Lines<T>& x, const Lines<T>& y, const Level& level, int64_t k, bool square,
            std::vector<int64_t>& rank, int64_t* location, bool* exists) {
  const int64_t rows = std::min(k, level.height);
  const int64_t top = y.low(rows);
  for (int64_t b = 0; b < rows; ++b) rank[y.line(b) - top] = b;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t window = std::min(columns_of(rank[row], k, square), level.width);
    const int64_t left = x.low(window);
    for (int64_t column = left; column < left + window; ++column) {
      *location++ = level.first + (top + row) * level.width + column;
      *exists++ = true;
    }
  }
}

template <typename T>
void around_all(const Tensor& points, const std::vector<Level>& levels, float offset, int64_t k,
                bool square, int64_t each, int64_t* location, bool* exists) {
  const Values<T> xy(points, "points");
  const int64_t size = each * static_cast<int64_t>(levels.size());
  std::fill_n(location, points.size(0) * size, 0);
  std::fill_n(exists, points.size(0) * size, false);
  torch::stable::parallel_for(0, points.size(0), kGrain, [&](int64_t begin, int64_t end) {
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
        around(x, y, level, k, square, rank, location + at, exists + at);
      }
    }
  });
}

std::tuple<Tensor, Tensor> locations_around(const Tensor& points, std::vector<int64_t> flat_levels,
                                            double offset, int64_t k, bool square) {
  require_columns(points, 2, "points");
  require_search(k, offset);
  const auto levels = levels_of(flat_levels);
  int64_t each = 0;
  for (int64_t row = 0; row < k; ++row) each += columns_of(row, k, square);
  const int64_t columns = each * static_cast<int64_t>(levels.size());
  Tensor location = torch::stable::new_empty(points, {points.size(0), columns}, ScalarType::Long);
  Tensor exists = torch::stable::new_empty(points, {points.size(0), columns}, ScalarType::Bool);
  with_floats(points, "points", [&](auto zero) {
    around_all<decltype(zero)>(points, levels, static_cast<float>(offset), k, square, each,
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
