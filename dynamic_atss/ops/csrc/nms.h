// When one box suppresses another: the formula of torchvision's NMS in float64. Every operation is
// rounded by itself, so that the decision is the same on every device. (Compilers may contract some
// of torchvision's own, as for ARM or a GPU, whose last bit then differs.)
#pragma once

#include <cstdint>

#ifndef HOST_DEVICE
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__ __forceinline__
#else
#define HOST_DEVICE inline __attribute__((always_inline))
#endif
#endif

namespace dynamic_atss {

struct Box {
  double x1, y1, x2, y2;  // with the legacy "+1" in x2 and y2
  double area;
};

// Not to be contracted with an addition.
HOST_DEVICE double product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

HOST_DEVICE double larger(double a, double b) { return a < b ? b : a; }
HOST_DEVICE double smaller(double a, double b) { return b < a ? b : a; }

template <typename T>
HOST_DEVICE Box box_at(const T* corners, double extra) {
  const double x1 = static_cast<double>(corners[0]), y1 = static_cast<double>(corners[1]);
  const double x2 = static_cast<double>(corners[2]) + extra;
  const double y2 = static_cast<double>(corners[3]) + extra;
  return {x1, y1, x2, y2, product(x2 - x1, y2 - y1)};
}

// 0 where a coordinate is not a number.
HOST_DEVICE double intersection(const Box& a, const Box& b) {
  const double width = smaller(a.x2, b.x2) - larger(a.x1, b.x1);
  const double height = smaller(a.y2, b.y2) - larger(a.y1, b.y1);
  return product(larger(0.0, width), larger(0.0, height));
}

// Whether the IoU exceeds a threshold; one that is not a number does not.
HOST_DEVICE bool overlap(const Box& a, const Box& b, double threshold) {
  const double inter = intersection(a, b);
  return inter / (a.area + b.area - inter) > threshold;
}

}  // namespace dynamic_atss
