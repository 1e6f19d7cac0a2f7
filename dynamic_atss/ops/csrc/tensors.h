// Helpers for reading the arguments of kernels safely.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace dynamic_atss {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Raises a RuntimeError with this message unless the condition holds.
inline void require(bool holds, const std::string& message) {
  if (!holds) throw std::runtime_error(message);
}

// Checks calls of PyTorch's C interface. The name of PyTorch's macro for this depends on its
// version.
inline void require_success(AOTITorchError code, const char* call) {
  require(code == TORCH_SUCCESS, std::string(call) + " failed");
}

inline std::string shape_of(const Tensor& x) {
  std::string text = "(";
  for (int64_t i = 0; i < x.dim(); ++i) text += (i ? ", " : "") + std::to_string(x.size(i));
  return text + ")";
}

// Requires one of the four dtypes of the operators' arguments.
inline void require_type(const Tensor& x, ScalarType type, const char* name) {
  const char* wanted = type == ScalarType::Double  ? "float64"
                       : type == ScalarType::Float ? "float32"
                       : type == ScalarType::Long  ? "int64"
                                                   : "bool";
  require(x.scalar_type() == type, std::string(name) + " has another dtype than " + wanted);
}

// Requires that x is (rows,) of this type. The message contains its name.
inline void require_rows(const Tensor& x, int64_t rows, ScalarType type, const char* name) {
  require(x.dim() == 1 && x.size(0) == rows, std::string(name) + " has shape " + shape_of(x) +
                                                 ", not (" + std::to_string(rows) + ",)");
  require_type(x, type, name);
}

// Calls `run` with a 0 of the tensor's type, one of four floating-point types.
template <typename Run>
auto by_type(const Tensor& x, const char* name, const Run& run) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return run(float());
    case ScalarType::Double:
      return run(double());
    case ScalarType::BFloat16:
      return run(torch::headeronly::BFloat16());
    case ScalarType::Half:
      return run(torch::headeronly::Half());
    default:
      throw std::runtime_error(std::string(name) + " must be floating point");
  }
}

// Requires the same device, because a kernel is also called if only some arguments are on its
// device.
inline void require_on(const Tensor& x, const Tensor& other, const char* names) {
  require(x.is_cpu() == other.is_cpu() && x.is_cuda() == other.is_cuda() &&
              x.get_device_index() == other.get_device_index(),
          std::string(names) + " are not on one device");
}

inline void require_focal(const Tensor& logits, const Tensor& classes,
                          const std::optional<Tensor>& quality,
                          const std::optional<Tensor>& divisor, int64_t kind) {
  const char* names = "logits, classes, quality and divisor";
  require_on(logits, classes, names);
  if (quality) require_on(logits, *quality, names);
  if (divisor) require_on(logits, *divisor, names);
  require(logits.dim() == 2, "logits have shape " + shape_of(logits) + ", not (rows, classes)");
  require_rows(classes, logits.size(0), ScalarType::Long, "classes");
  require(kind >= 0 && kind <= 2, "kind must be 0, 1 or 2: there is no such kind of focal loss");
  require(kind == 0 || quality, "this loss needs the quality");
}

// Gives the elements in row-major order. `keep` owns them if x is not contiguous.
template <typename T>
const T* elements(const Tensor& x, Tensor& keep) {
  keep = torch::stable::contiguous(x);
  return static_cast<const T*>(keep.const_data_ptr());
}

}  // namespace dynamic_atss
