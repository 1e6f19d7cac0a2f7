// Finds the locations inside a region as ranges of a level's columns and rows.
#pragma once

#include <algorithm>
#include <cmath>

#include "assign_boxes.h"

namespace dynamic_atss {

constexpr double kSlack = 1e-3;  // strides by which a range is widened against rounding

// `width` columns from `left` on, and `height` rows from `top` on. Either may be 0.
struct Range {
  int64_t left, top, width, height;

  int64_t size() const { return width * height; }
};

// Finds the first line and the number of lines in [low, high] on an axis with `count` lines. NaN
// contains no line.
template <typename T>
void lines_within(T low, T high, T stride, T offset, int64_t count, int64_t& first,
                  int64_t& lines) {
  const T slack = static_cast<T>(kSlack), last = static_cast<T>(count - 1);
  T begin = std::ceil(low / stride - offset - slack);
  T end = std::floor(high / stride - offset + slack);
  begin = begin > 0 ? begin : 0;
  end = end < last ? end : last;
  const bool any = begin <= end && high == high && low == low;
  first = any ? static_cast<int64_t>(begin) : 0;
  lines = any ? static_cast<int64_t>(end - begin) + 1 : 0;
}

template <typename T>
Range range_of(const Box<T>& region, const Level& level, T offset) {
  Range range;
  const T stride = static_cast<T>(level.stride);
  lines_within(region.x1, region.x2, stride, offset, level.width, range.left, range.width);
  lines_within(region.y1, region.y2, stride, offset, level.height, range.top, range.height);
  return range;
}

}  // namespace dynamic_atss
