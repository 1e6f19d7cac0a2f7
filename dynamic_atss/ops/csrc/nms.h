// Decides whether a box suppresses another by the formula of torchvision's NMS in float64. Rounds
// every operation separately, so the decision is equal on every device. (In torchvision, compilers
// for ARM or a GPU may contract operations, which changes the last bit.)
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

// Multiplies without contraction with an addition.
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
HOST_DEVICE Box box_at(const T* corners, double offset) {
  const double x1 = static_cast<double>(corners[0]), y1 = static_cast<double>(corners[1]);
  const double x2 = static_cast<double>(corners[2]) + offset;
  const double y2 = static_cast<double>(corners[3]) + offset;
  return {x1, y1, x2, y2, product(x2 - x1, y2 - y1)};
}

// Gives 0 if a coordinate is NaN.
HOST_DEVICE double intersection(const Box& a, const Box& b) {
  const double width = smaller(a.x2, b.x2) - larger(a.x1, b.x1);
  const double height = smaller(a.y2, b.y2) - larger(a.y1, b.y1);
  return product(larger(0.0, width), larger(0.0, height));
}

// Tests whether the IoU exceeds a threshold. NaN does not.
HOST_DEVICE bool overlap(const Box& a, const Box& b, double threshold) {
  const double inter = intersection(a, b);
  return inter / (a.area + b.area - inter) > threshold;
}

}  // namespace dynamic_atss
