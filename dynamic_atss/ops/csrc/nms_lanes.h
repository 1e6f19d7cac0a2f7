// Compares a box with eight others at a time, for NMS on the CPU. Include it in one source only,
// which must not contract multiplications with additions.
#pragma once

#include <cstdint>
#include <limits>

#include "nms.h"
#include "vectors.h"

namespace dynamic_atss {
namespace {

constexpr int kLanes = 8;

// Eight kept boxes of a class. Empty lanes are NaN, which overlaps nothing.
struct Lanes {
  double x1[kLanes], y1[kLanes], x2[kLanes], y2[kLanes], area[kLanes];

  void clear() {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    for (int lane = 0; lane < kLanes; ++lane) put(lane, {kNan, kNan, kNan, kNan, kNan});
  }
  void put(int lane, const Box& box) {
    x1[lane] = box.x1, y1[lane] = box.y1, x2[lane] = box.x2, y2[lane] = box.y2;
    area[lane] = box.area;
  }
  ALWAYS_INLINE Box at(int lane) const {
    return {x1[lane], y1[lane], x2[lane], y2[lane], area[lane]};
  }
};

// Tests whether the box overlaps a box of `lanes`.
inline bool overlaps(const Lanes* lanes, int64_t count, const Box& box, double threshold) {
  return with_widest([&]() INLINED {
    for (int64_t i = 0; i < count; ++i) {
      int64_t any = 0;
      for (int lane = 0; lane < kLanes; ++lane) any |= overlap(lanes[i].at(lane), box, threshold);
      if (any) return true;
    }
    return false;
  });
}

}  // namespace
}  // namespace dynamic_atss
