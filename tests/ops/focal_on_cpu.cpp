// The CUDA kernels of the focal losses on the CPU, called by test_focal_cuda_on_cpu.py.
#include <cstdio>

#include "cuda_on_cpu.h"
#include "focal.cuh"

using namespace dynamic_atss;
using cuda_on_cpu::launch;

namespace {

template <int kWidth, bool kSquare>
void run(const float* logits, const int64_t* classes, const float* quality, const float* divisor,
         float* gradient, float* loss, int64_t rows, int columns, Focal<float> focal,
         unsigned blocks) {
  std::vector<float> partial(blocks);
  launch(blocks, kThreads, focal_kernel<float, float, kWidth, kSquare>, logits, classes, quality,
         divisor, gradient, partial.data(), rows * columns, columns, focal);
  launch(1, kThreads, total_kernel<float>, partial.data(), static_cast<int>(blocks), divisor, loss);
}

}  // namespace

extern "C" void focal_on_cpu(const float* logits, const int64_t* classes, const float* quality,
                             const float* divisor, float* gradient, float* loss, int64_t rows,
                             int columns, int64_t kind, float alpha, float gamma, unsigned blocks,
                             bool wide) {
  const Focal<float> focal{kind, alpha, gamma};
  const auto call = [&](auto function) {
    function(logits, classes, quality, divisor, gradient, loss, rows, columns, focal, blocks);
  };
  const bool square = gamma == 2.0f;
  if (wide) {
    square ? call(run<4, true>) : call(run<4, false>);
  } else {
    square ? call(run<1, true>) : call(run<1, false>);
  }
}

extern "C" void scale_on_cpu(float* gradient, const float* factor, int64_t count, unsigned blocks,
                             bool wide) {
  if (wide) {
    launch(blocks, kThreads, scale_kernel<float, float, 4>, gradient, factor, count);
  } else {
    launch(blocks, kThreads, scale_kernel<float, float, 1>, gradient, factor, count);
  }
}
