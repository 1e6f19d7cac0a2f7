// Computes focal losses on CUDA without waiting for the device. The gradient is the only (M, C)
// memory.
#include <cassert>
#include <optional>
#include <tuple>

#include "device.h"
#include "focal.cuh"
#include "tensors.h"

namespace dynamic_atss {
namespace {

template <typename Scalar>
using Accumulate = std::conditional_t<std::is_same_v<Scalar, double>, double, float>;

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <typename Scalar>
struct Call {
  using T = Accumulate<Scalar>;

  const Scalar* logits;
  const int64_t* classes;
  const T* quality;
  const T* divisor;
  Scalar* gradient;
  T* partial;
  T* loss;
  int64_t count;
  int columns;
  Focal<T> focal;
  int blocks;
  cudaStream_t stream;

  template <int kWidth, bool kSquare>
  void launch() const {
    focal_kernel<Scalar, T, kWidth, kSquare><<<blocks, kThreads, 0, stream>>>(
        logits, classes, quality, divisor, gradient, partial, count, columns, focal);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    total_kernel<T><<<1, kThreads, 0, stream>>>(partial, blocks, divisor, loss);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  void run() const {
    constexpr int kWidest = 16 / sizeof(Scalar);  // a thread loads at most 16 bytes at once
    const bool wide = columns % kWidest == 0 && aligned(logits) && aligned(gradient);
    const bool square = focal.gamma == T(2);
    if (wide) {
      square ? launch<kWidest, true>() : launch<kWidest, false>();
    } else {
      square ? launch<1, true>() : launch<1, false>();
    }
  }
};

template <typename Scalar>
std::tuple<Tensor, Tensor> loss_of(const Tensor& logits, const Tensor& classes,
                                   const std::optional<Tensor>& quality,
                                   const std::optional<Tensor>& divisor, Focal<double> focal) {
  using T = Accumulate<Scalar>;
  constexpr ScalarType type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
  const int64_t rows = logits.size(0), columns = logits.size(1);
  Tensor kept[3];
  const T* labels = nullptr;
  if (quality) {
    require_rows(*quality, rows, type, "quality");
    labels = elements<T>(*quality, kept[0]);
  }
  const T* divided_by = nullptr;
  if (divisor) {
    require(divisor->numel() == 1 && divisor->scalar_type() == type,
            "divisor must be one number of the dtype of the loss");
    divided_by = static_cast<const T*>(divisor->const_data_ptr());
  }
  const Scalar* values = elements<Scalar>(logits, kept[1]);
  const int64_t* wanted = elements<int64_t>(classes, kept[2]);
  const int blocks = blocks_for(rows * columns, kThreads * 4);
  Tensor gradient = torch::stable::new_empty(logits, {rows, columns});
  Tensor partial = torch::stable::new_empty(logits, {blocks}, type);
  Tensor loss = torch::stable::new_empty(logits, {}, type);
  Call<Scalar>{values,
               wanted,
               labels,
               divided_by,
               static_cast<Scalar*>(gradient.mutable_data_ptr()),
               static_cast<T*>(partial.mutable_data_ptr()),
               static_cast<T*>(loss.mutable_data_ptr()),
               rows * columns,
               static_cast<int>(columns),
               {focal.kind, static_cast<T>(focal.alpha), static_cast<T>(focal.gamma)},
               blocks,
               stream_of(logits)}
      .run();
  return {loss, gradient};
}

std::tuple<Tensor, Tensor> focal_loss(const Tensor& logits, const Tensor& classes,
                                      std::optional<Tensor> quality, std::optional<Tensor> divisor,
                                      int64_t kind, double alpha, double gamma) {
  require_focal(logits, classes, quality, divisor, kind);
  require(logits.is_cuda(), "logits are not on a CUDA device");
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const Focal<double> focal{kind, alpha, gamma};
  return by_type(logits, "logits", [&](auto zero) {
    return loss_of<decltype(zero)>(logits, classes, quality, divisor, focal);
  });
}

template <typename Scalar>
void scale_by(Tensor& gradient, const Tensor& factor) {
  using T = Accumulate<Scalar>;
  constexpr int kWidest = 16 / sizeof(Scalar);
  Scalar* values = static_cast<Scalar*>(gradient.mutable_data_ptr());
  const T* by = static_cast<const T*>(factor.const_data_ptr());
  const int64_t count = gradient.numel();
  const int blocks = blocks_for(count, kThreads * 4);
  const cudaStream_t stream = stream_of(gradient);
  if (count % kWidest == 0 && aligned(values)) {
    scale_kernel<Scalar, T, kWidest><<<blocks, kThreads, 0, stream>>>(values, by, count);
  } else {
    scale_kernel<Scalar, T, 1><<<blocks, kThreads, 0, stream>>>(values, by, count);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

void scale(Tensor gradient, const Tensor& factor) {
  require(gradient.is_contiguous(), "gradient must be contiguous");
  const bool precise = gradient.scalar_type() == ScalarType::Double;
  require_on(gradient, factor, "gradient and factor");
  require(gradient.is_cuda(), "gradient is not on a CUDA device");
  require(factor.numel() == 1 &&
              factor.scalar_type() == (precise ? ScalarType::Double : ScalarType::Float),
          "factor must be one number of the dtype of the loss");
  const torch::stable::accelerator::DeviceGuard guard(gradient.get_device_index());
  by_type(gradient, "gradient", [&](auto zero) { scale_by<decltype(zero)>(gradient, factor); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CUDA, m) {
  m.impl("focal_loss", TORCH_BOX(&focal_loss));
  m.impl("scale_", TORCH_BOX(&scale));
}

}  // namespace dynamic_atss
