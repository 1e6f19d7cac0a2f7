// Geometry of boxes; see dynamic_atss/boxes.py.
#pragma once

#include <algorithm>

#include "assign.h"

namespace dynamic_atss {

template <typename T>
inline T area(const T* box, T extra) {
  return (box[2] - box[0] + extra) * (box[3] - box[1] + extra);
}

// 0 where the union is none or NaN, as it is wherever a coordinate is.
template <typename T>
inline T iou(const T* a, const T* b, T extra) {
  T width = std::min(a[2], b[2]) - std::max(a[0], b[0]) + extra;
  T height = std::min(a[3], b[3]) - std::max(a[1], b[1]) + extra;
  width = width > 0 ? width : 0;
  height = height > 0 ? height : 0;
  const T inter = width * height;
  const T whole = area(a, extra) + area(b, extra) - inter;
  return whole > 0 ? inter / whole : 0;
}

}  // namespace dynamic_atss
