// The CUDA kernels of NMS on the CPU, called by test_nms_cuda_on_cpu.py.
#include <cstdio>
#include <numeric>

#include "cuda_on_cpu.h"
#include "nms.cuh"

using namespace dynamic_atss;

namespace {

// As torch.sort(stable=True) of each row: values and their places.
template <typename T>
void sort_rows(std::vector<T>& values, std::vector<int64_t>& places, int64_t rows, int64_t columns,
               bool descending) {
  places.resize(values.size());
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = places.begin() + row * columns;
    const std::vector<T> before(values.begin() + row * columns,
                                values.begin() + (row + 1) * columns);
    std::iota(begin, begin + columns, 0);
    std::stable_sort(begin, begin + columns, [&](int64_t a, int64_t b) {
      return descending ? before[a] > before[b] : before[a] < before[b];
    });
    for (int64_t i = 0; i < columns; ++i) values[row * columns + i] = before[begin[i]];
  }
}

void nms(const float* boxes, const float* scores, const int64_t* classes, int64_t images,
         int64_t columns, double threshold, double offset, int64_t limit, unsigned threads,
         int64_t* keep, int64_t* counts) {
  using cuda_on_cpu::launch;
  const int64_t size = images * columns;
  const auto blocks = static_cast<unsigned>((size + threads - 1) / threads);
  std::vector<float> sorted(size);
  std::vector<int64_t> candidate, ranked(size), rank;
  const std::unique_ptr<bool[]> kept(new bool[size]);
  launch(blocks, threads, mask_scores<float>, scores, size, sorted.data());
  sort_rows(sorted, candidate, images, columns, true);
  launch(blocks, threads, classes_by_rank<float>, classes, sorted.data(), candidate.data(), columns,
         size, ranked.data(), kept.get());
  sort_rows(ranked, rank, images, columns, false);
  launch(static_cast<unsigned>(images * ((columns + kTile - 1) / kTile)), threads, suppress<float>,
         boxes, sorted.data(), candidate.data(), ranked.data(), rank.data(), columns, threshold,
         offset, kept.get());
  launch(static_cast<unsigned>(images), threads, compact, kept.get(), candidate.data(), columns,
         limit, keep, counts);
}

__global__ void half_of_the_block_waits() {
  if (threadIdx.x % 2) __syncthreads();
}

// Each warp's sum of its threads' numbers, and the block's by atomics.
__global__ void sums(int* of_warps, int* of_block) {
  int sum = static_cast<int>(threadIdx.x);
  for (int by = warpSize / 2; by > 0; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
  if (threadIdx.x % warpSize == 0) of_warps[threadIdx.x / warpSize] = sum;
  __syncthreads();
  atomicAdd(of_block, of_warps[threadIdx.x % (blockDim.x / warpSize)]);
}

template <typename Run>
int guarded(const Run& run) {
  try {
    run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace

extern "C" int nms_on_cpu(const float* boxes, const float* scores, const int64_t* classes,
                          int64_t images, int64_t columns, double threshold, double offset,
                          int64_t limit, unsigned threads, int64_t* keep, int64_t* counts) {
  return guarded([&] {
    nms(boxes, scores, classes, images, columns, threshold, offset, limit, threads, keep, counts);
  });
}

extern "C" int barrier_that_not_all_reach() {
  return guarded([] { cuda_on_cpu::launch(1, 4, half_of_the_block_waits); });
}

extern "C" int sums_on_cpu(int* of_warps, int* of_block) {
  return guarded([&] { cuda_on_cpu::launch(1, 64, sums, of_warps, of_block); });
}
