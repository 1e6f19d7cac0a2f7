// In place of csrc/device.h where a .cu is compiled for the CPU (helpers_cuda_operators.py).
//
// With ROUND_TOWARDS, the parts of the kernels run that are for a GPU. The reciprocal is then off
// by a unit in the last place, as a GPU's may be.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/macros.h>

#include "../cuda_on_cpu.h"
#include "tensors.h"

#undef STD_CUDA_KERNEL_LAUNCH_CHECK
#define STD_CUDA_KERNEL_LAUNCH_CHECK()

namespace dynamic_atss {

using cudaStream_t = void*;
inline cudaStream_t stream_of(const Tensor&) { return nullptr; }

inline int blocks_for(int64_t items, int64_t share) {
  return static_cast<int>(std::clamp<int64_t>((items + share - 1) / share, 1, 3));
}

}  // namespace dynamic_atss

#ifdef ROUND_TOWARDS
#define __CUDA_ARCH__ 900  // after PyTorch's headers, which would call more of CUDA

// Rounds the product, whatever is added to it.
inline double __dmul_rn(double a, double b) {
  const volatile double product = a * b;
  return product;
}

inline float __fdividef(float a, float b) { return std::nextafter(a / b, float(ROUND_TOWARDS)); }
#endif
