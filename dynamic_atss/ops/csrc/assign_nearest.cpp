// Finds locations near points by arithmetic on the levels' lattices; see
// dynamic_atss/assigners/reference/nearest.py.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "assign_lattice.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 64;  // points per task, about 30 us

// Combines distance and index, for ties, into an integer. Non-negative floats sort like their bits.
int64_t key_of(float distance, int64_t index) {
  uint32_t bits;
  std::memcpy(&bits, &distance, sizeof bits);
  return static_cast<int64_t>(bits) << 32 | index;
}

// Finds the `kept` smallest keys among the candidate locations, in order.
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
  std::vector<int64_t> rows;  // number of rows by rank of the column
  for (int64_t rank = 0; rank < k; ++rank) rows.push_back(k / (rank + 1));
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

template <typename T>
void around_all(const Tensor& points, const std::vector<Level>& levels, float offset,
                const RuleWrapper<T>& around, int64_t* location, bool* exists) {
  const Values<T> xy(points, "points");
  const int64_t each = around.size(), size = each * static_cast<int64_t>(levels.size());
  std::fill_n(location, points.size(0) * size, 0);
  std::fill_n(exists, points.size(0) * size, false);
  const auto search = [&](int64_t begin, int64_t end) INLINED {
    RuleWrapper<T> mine(around);
    for (int64_t t = begin; t < end; ++t) {
      for (size_t i = 0; i < levels.size(); ++i) {
        int64_t at = t * size + static_cast<int64_t>(i) * each;
        mine.each_row(xy[2 * t], xy[2 * t + 1], levels[i], offset,
                      [&](int64_t first, int64_t count) INLINED {
                        for (int64_t n = 0; n < count; ++n) location[at + n] = first + n;
                        for (int64_t n = 0; n < count; ++n) exists[at + n] = true;
                        at += count;
                      });
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
  const int64_t size = RuleWrapper<float>(k, square).size() * static_cast<int64_t>(levels.size());
  Tensor location = torch::stable::new_empty(points, {points.size(0), size}, ScalarType::Long);
  Tensor exists = torch::stable::new_empty(points, {points.size(0), size}, ScalarType::Bool);
  with_floats(points, "points", [&](auto zero) {
    around_all(points, levels, static_cast<float>(offset), RuleWrapper<decltype(zero)>(k, square),
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
