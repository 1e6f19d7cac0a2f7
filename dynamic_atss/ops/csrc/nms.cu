// Does batched multiclass NMS on CUDA by sorts and kernels (nms.cuh), without waiting for the
// device.
#include <torch/csrc/stable/library.h>

#include <array>
#include <optional>
#include <tuple>

#include "device.h"
#include "nms.cuh"
#include "nms_arguments.h"

namespace dynamic_atss {
namespace {

// Does torch.sort(x, dim=1, stable=True): gives the sorted values and their places. Only newer
// headers have torch::stable::sort.
std::tuple<Tensor, Tensor> sort_rows(const Tensor& x, bool descending) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  const std::optional<bool> stable = true;
  std::array<StableIValue, 4> stack{from(x), from(stable), from(int64_t{1}), from(descending)};
  require_success(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION),
                  "sorting");
  Tensor values = to<Tensor>(stack[0]), places = to<Tensor>(stack[1]);
  return {torch::stable::contiguous(values), torch::stable::contiguous(places)};
}

template <typename T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// Gives the blocks for one thread per element.
dim3 blocks_of(int64_t size) { return static_cast<unsigned>((size + kThreads - 1) / kThreads); }

template <typename T>
std::tuple<Tensor, Tensor> nms_of(const Tensor& boxes, const Tensor& scores, const Tensor& classes,
                                  const NmsSizes& sizes, double threshold, double offset) {
  const auto [images, columns, limit] = sizes;
  const int64_t size = images * columns;
  const cudaStream_t stream = stream_of(scores);
  Tensor held[3];
  const T* corners = elements<T>(boxes, held[0]);
  const T* values = elements<T>(scores, held[1]);
  const int64_t* labels = elements<int64_t>(classes, held[2]);
  Tensor keep = torch::stable::new_empty(classes, {images, limit});
  Tensor counts = torch::stable::new_zeros(classes, {images});
  if (size == 0) return {keep, counts};

  Tensor masked = torch::stable::new_empty(scores, {images, columns});
  mask_scores<T><<<blocks_of(size), kThreads, 0, stream>>>(values, size, data<T>(masked));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  const auto [sorted, candidate] = sort_rows(masked, true);
  Tensor ranked = torch::stable::new_empty(classes, {images, columns});
  Tensor kept = torch::stable::new_empty(classes, {images, columns}, ScalarType::Bool);
  classes_by_rank<T><<<blocks_of(size), kThreads, 0, stream>>>(
      labels, data<T>(sorted), data<int64_t>(candidate), columns, size, data<int64_t>(ranked),
      data<bool>(kept));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  const auto [runs, rank] = sort_rows(ranked, false);
  const int64_t tiles = images * ((columns + kTile - 1) / kTile);
  suppress<T><<<static_cast<unsigned>(tiles), kThreads, 0, stream>>>(
      corners, data<T>(sorted), data<int64_t>(candidate), data<int64_t>(runs), data<int64_t>(rank),
      columns, threshold, offset, data<bool>(kept));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  compact<<<static_cast<unsigned>(images), kThreads, 0, stream>>>(
      data<bool>(kept), data<int64_t>(candidate), columns, limit, data<int64_t>(keep),
      data<int64_t>(counts));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {keep, counts};
}

std::tuple<Tensor, Tensor> batched_multiclass_nms(const Tensor& boxes, const Tensor& scores,
                                                  const Tensor& classes, double threshold,
                                                  double offset, std::optional<int64_t> limit) {
  const NmsSizes sizes = nms_sizes(boxes, scores, classes, threshold, limit);
  require(scores.is_cuda(), "scores are not on a CUDA device");
  const torch::stable::accelerator::DeviceGuard guard(scores.get_device_index());
  if (scores.scalar_type() == ScalarType::Double) {
    return nms_of<double>(boxes, scores, classes, sizes, threshold, offset);
  }
  return nms_of<float>(boxes, scores, classes, sizes, threshold, offset);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CUDA, m) {
  m.impl("batched_multiclass_nms", TORCH_BOX(&batched_multiclass_nms));
}

}  // namespace dynamic_atss
