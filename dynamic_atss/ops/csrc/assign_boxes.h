// Computes the geometry of boxes; see dynamic_atss/boxes.py. `offset` is 1 for the legacy
// convention (x2 - x1 + 1 wide), else 0.
#pragma once

#include <algorithm>

#include "assign.h"
#include "vectors.h"

namespace dynamic_atss {

template <typename T>
struct Box {
  T x1, y1, x2, y2;
};

template <typename T>
ALWAYS_INLINE Box<T> box_at(const T* boxes, int64_t row) {
  const T* at = boxes + 4 * row;
  return {at[0], at[1], at[2], at[3]};
}

template <typename T>
ALWAYS_INLINE T area(const Box<T>& box, T offset) {
  return (box.x2 - box.x1 + offset) * (box.y2 - box.y1 + offset);
}

template <typename T>
struct Point {
  T x, y;
};

template <typename T>
ALWAYS_INLINE Point<T> center(const Box<T>& box) {
  return {(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2};
}

// Tests whether a point lies more than `margin` pixels inside.
template <typename T>
ALWAYS_INLINE bool inside(const Point<T>& at, const Box<T>& box, T margin) {
  return (at.x - box.x1 > margin) & (at.y - box.y1 > margin) & (box.x2 - at.x > margin) &
         (box.y2 - at.y > margin);
}

// Gives 0 where the union is 0 or NaN. It is NaN if a coordinate is.
template <typename T>
ALWAYS_INLINE T iou(const Box<T>& a, const Box<T>& b, T offset) {
  T width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1) + offset;
  T height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1) + offset;
  width = width > 0 ? width : 0;
  height = height > 0 ? height : 0;
  const T inter = width * height;
  const T total = area(a, offset) + area(b, offset) - inter;
  return total > 0 ? inter / total : 0;
}

}  // namespace dynamic_atss
