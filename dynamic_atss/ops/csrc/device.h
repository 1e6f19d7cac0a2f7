// Helpers for launching CUDA kernels.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>

#include "tensors.h"

namespace dynamic_atss {

inline cudaStream_t stream_of(const Tensor& x) {
  void* stream = nullptr;
  require_success(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream),
                  "getting the CUDA stream");
  return static_cast<cudaStream_t>(stream);
}

// Gives the number of blocks for `share` items each, from 1 to more than any GPU runs at once.
inline int blocks_for(int64_t items, int64_t share) {
  constexpr int64_t kMost = 16384;
  return static_cast<int>(std::clamp<int64_t>((items + share - 1) / share, 1, kMost));
}

}  // namespace dynamic_atss
