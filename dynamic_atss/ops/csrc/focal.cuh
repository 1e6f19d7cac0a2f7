// Defines the focal kernels in plain CUDA: value and gradient in one pass over the logits.
#pragma once

#include <cassert>

#include "focal.h"

namespace dynamic_atss {

constexpr int kThreads = 256;

// Loads and stores kWidth neighbours at once.
template <typename Scalar, int kWidth>
struct alignas(sizeof(Scalar) * kWidth) Pack {
  Scalar values[kWidth];
};

// Sums `mine` over the threads of a block. The first thread gets the sum, equal in every run.
template <typename T>
__device__ T block_sum(T mine) {
  __shared__ T sums[kThreads];
  sums[threadIdx.x] = mine;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  return sums[0];
}

// Computes loss and gradient of one element of the (M, C) logits.
template <typename T, bool kSquare>
__device__ Term<T> term_at(const Focal<T>& focal, T x, int column, int64_t label, const T* quality,
                           int64_t row) {
  if (label == kIgnore) return {T(0), T(0)};
  if (label != column) {
    return negative_term<T, kSquare>(x, focal.negative_weight(), focal.gamma);
  }
  return positive_term<T, kSquare>(focal, x, quality ? quality[row] : T(1));
}

// Writes the gradient (M, C), and the sum of each block's losses to partial (gridDim.x). A thread
// handles packs of kWidth neighbours, a grid's width apart. A pack lies within a row, because
// kWidth divides C.
template <typename Scalar, typename T, int kWidth, bool kSquare>
__global__ void focal_kernel(const Scalar* __restrict__ logits, const int64_t* __restrict__ classes,
                             const T* __restrict__ quality, const T* __restrict__ divisor,
                             Scalar* __restrict__ gradient, T* __restrict__ partial, int64_t count,
                             int columns, Focal<T> focal) {
  using Packed = Pack<Scalar, kWidth>;
  const T scale = divisor ? T(1) / *divisor : T(1);
  const int64_t packs = count / kWidth, stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const uint32_t packs_of_row = columns / kWidth;
  T sum = 0;
  for (int64_t pack = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; pack < packs;
       pack += stride) {
    // A 64-bit division takes as long as the loss.
    const int64_t row =
        packs <= UINT32_MAX ? static_cast<uint32_t>(pack) / packs_of_row : pack / packs_of_row;
    const int first = static_cast<int>(pack - row * packs_of_row) * kWidth;
    const int64_t label = classes[row];
    assert(label < columns);  // fails for a class that the logits lack
    const Packed in = reinterpret_cast<const Packed*>(logits)[pack];
    Packed out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Term<T> term =
          term_at<T, kSquare>(focal, static_cast<T>(in.values[i]), first + i, label, quality, row);
      sum += term.loss;
      out.values[i] = static_cast<Scalar>(term.gradient * scale);
    }
    reinterpret_cast<Packed*>(gradient)[pack] = out;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Adds the blocks' sums in the order of the blocks. Runs as one block.
template <typename T>
__global__ void total_kernel(const T* __restrict__ partial, int blocks,
                             const T* __restrict__ divisor, T* __restrict__ loss) {
  double sum = 0;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *loss = static_cast<T>(divisor ? sum / *divisor : sum);
}

// Computes gradient *= factor. Reads no gradient if the factor is 1, the usual case, which the host
// cannot know without waiting.
template <typename Scalar, typename T, int kWidth>
__global__ void scale_kernel(Scalar* __restrict__ gradient, const T* __restrict__ factor,
                             int64_t count) {
  using Packed = Pack<Scalar, kWidth>;
  const T by = *factor;
  if (by == T(1)) return;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t pack = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       pack < count / kWidth; pack += stride) {
    Packed both = reinterpret_cast<Packed*>(gradient)[pack];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      both.values[i] = static_cast<Scalar>(static_cast<T>(both.values[i]) * by);
    }
    reinterpret_cast<Packed*>(gradient)[pack] = both;
  }
}

}  // namespace dynamic_atss
