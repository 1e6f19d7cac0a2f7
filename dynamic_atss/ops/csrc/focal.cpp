// Computes focal losses on the CPU: value and gradient in one pass over the logits.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")  // fused multiply-add is a third faster; clang's default
#endif
#include "focal.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "tensors.h"
#include "vectors.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kBlock = 256;    // elements whose losses are summed in the arithmetic's type
constexpr int64_t kLanes = 16;     // partial sums of a block, which are added in vectors
constexpr int64_t kChunk = 16384;  // elements per task, about; its sum is double

// double for double, float for all others.
template <typename Scalar>
using Accumulate = std::conditional_t<std::is_same_v<Scalar, double>, double, float>;

// Computes the negative terms of `size` elements, at most a block, and their sum. Adds in lanes, so
// that the order of the additions does not depend on the vector length.
template <typename Scalar, bool kSquare>
ALWAYS_INLINE double block_body(const Scalar* __restrict logits, Scalar* __restrict gradient,
                                int64_t size, Accumulate<Scalar> weight, Accumulate<Scalar> gamma,
                                Accumulate<Scalar> scale) {
  using T = Accumulate<Scalar>;
  T loss[kBlock];
  for (int64_t i = 0; i < size; ++i) {
    const auto term = negative_term<T, kSquare>(static_cast<T>(logits[i]), weight, gamma);
    loss[i] = term.loss;
    gradient[i] = static_cast<Scalar>(term.gradient * scale);
  }
  for (int64_t i = size; i < kBlock; ++i) loss[i] = 0;
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += loss[i + lane];
  }
  double total = 0;
  for (const T lane : lanes) total += lane;
  return total;
}

template <typename Scalar, bool kSquare>
ALWAYS_INLINE double negatives_body(const Scalar* logits, Scalar* gradient, int64_t n,
                                    Accumulate<Scalar> weight, Accumulate<Scalar> gamma,
                                    Accumulate<Scalar> scale) {
  double total = 0;
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {  // the compiler knows this size
    total += block_body<Scalar, kSquare>(logits + i, gradient + i, kBlock, weight, gamma, scale);
  }
  if (i < n) {
    total += block_body<Scalar, kSquare>(logits + i, gradient + i, n - i, weight, gamma, scale);
  }
  return total;
}

template <typename Scalar>
struct Rows {
  using T = Accumulate<Scalar>;

  const Scalar* logits;    // (M, C)
  const int64_t* classes;  // (M,)
  const T* quality;        // (M,), or null
  Scalar* gradient;        // (M, C)
  int64_t columns;
  Focal<T> focal;
  T scale;  // of the gradient

  template <bool kSquare>
  double run(int64_t first, int64_t last) const {
    const auto negatives = [this](int64_t begin, int64_t size) INLINED {
      return negatives_body<Scalar, kSquare>(logits + begin, gradient + begin, size,
                                             focal.negative_weight(), focal.gamma, scale);
    };
    double total = 0;
    for (int64_t row = first; row < last;) {
      int64_t end = row;
      const bool ignored = classes[row] == kIgnore;
      while (end < last && (classes[end] == kIgnore) == ignored) ++end;
      const int64_t begin = row * columns, stop = end * columns;
      if (ignored) {
        std::fill_n(gradient + begin, stop - begin, Scalar(0.0f));
        row = end;
        continue;
      }
      // Skips the positives' classes, because an infinite term could not be subtracted again.
      int64_t from = begin;
      for (; row < end; ++row) {
        if (classes[row] < 0) continue;
        const int64_t at = row * columns + classes[row];
        total += with_widest(negatives, from, at - from) + positive<kSquare>(row, at);
        from = at + 1;
      }
      total += with_widest(negatives, from, stop - from);
    }
    return total;
  }

  // Computes the term of a positive's class, and writes its gradient.
  template <bool kSquare>
  double positive(int64_t row, int64_t at) const {
    const auto term =
        positive_term<T, kSquare>(focal, static_cast<T>(logits[at]), quality ? quality[row] : T(1));
    gradient[at] = static_cast<Scalar>(term.gradient * scale);
    return term.loss;
  }
};

// Sums over all rows. The result does not depend on the number of threads.
template <typename Scalar>
double run_all(const Rows<Scalar>& rows, int64_t count) {
  const int64_t step = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, rows.columns));
  const int64_t chunks = (count + step - 1) / step;
  std::vector<double> sums(chunks);
  const bool square = rows.focal.gamma == Accumulate<Scalar>(2);
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk * step, last = std::min(count, first + step);
      sums[chunk] =
          square ? rows.template run<true>(first, last) : rows.template run<false>(first, last);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

template <typename Scalar>
std::tuple<Tensor, Tensor> loss_of(const Tensor& logits, const Tensor& classes,
                                   const std::optional<Tensor>& quality,
                                   const std::optional<Tensor>& divisor, Focal<double> focal) {
  using T = Accumulate<Scalar>;
  constexpr ScalarType type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
  const int64_t count = logits.size(0), columns = logits.size(1);
  Tensor kept[3];
  const T* labels = nullptr;
  if (quality) {
    require_rows(*quality, count, type, "quality");
    labels = elements<T>(*quality, kept[0]);
  }
  const Scalar* values = elements<Scalar>(logits, kept[1]);
  const int64_t* wanted = elements<int64_t>(classes, kept[2]);
  const int64_t* largest = std::max_element(wanted, wanted + count);
  require(count == 0 || *largest < columns, "class " + std::to_string(count ? *largest : 0) +
                                                " of row " + std::to_string(largest - wanted) +
                                                " is not below the " + std::to_string(columns) +
                                                " columns of the logits");
  T divided_by = 1;
  if (divisor) {
    require(divisor->numel() == 1 && divisor->scalar_type() == type,
            "divisor must be one number of the dtype of the loss");
    divided_by = *static_cast<const T*>(divisor->const_data_ptr());
  }
  Tensor gradient = torch::stable::new_empty(logits, {count, columns});
  const Rows<Scalar> rows{
      values,           wanted,
      labels,           static_cast<Scalar*>(gradient.mutable_data_ptr()),
      columns,          {focal.kind, static_cast<T>(focal.alpha), static_cast<T>(focal.gamma)},
      T(1) / divided_by};
  const double total = run_all(rows, count);
  Tensor loss = torch::stable::new_empty(logits, {}, type);
  *static_cast<T*>(loss.mutable_data_ptr()) =
      static_cast<T>(total / static_cast<double>(divided_by));
  return {loss, gradient};
}

std::tuple<Tensor, Tensor> focal_loss(const Tensor& logits, const Tensor& classes,
                                      std::optional<Tensor> quality, std::optional<Tensor> divisor,
                                      int64_t kind, double alpha, double gamma) {
  require_focal(logits, classes, quality, divisor, kind);
  require(logits.is_cpu(), "logits are not on the CPU");
  const Focal<double> focal{kind, alpha, gamma};
  return by_type(logits, "logits", [&](auto zero) {
    return loss_of<decltype(zero)>(logits, classes, quality, divisor, focal);
  });
}

// Computes the focal loss of a row with a hard label, without the gradient.
template <typename Scalar, bool kSquare>
ALWAYS_INLINE Accumulate<Scalar> loss_of_row(const Scalar* logits, int32_t columns, int32_t wanted,
                                             const Focal<Accumulate<Scalar>>& focal) {
  using T = Accumulate<Scalar>;
  const T weight = focal.negative_weight();
  const auto negative = [=](int32_t column) INLINED {  // 0 for the row's class
    const T x = static_cast<T>(logits[column]);
    const T loss = negative_term<T, kSquare>(x, weight, focal.gamma).loss;
    return column == wanted ? T(0) : loss;
  };
  T lanes[kLanes] = {};
  int32_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) {
    for (int32_t lane = 0; lane < kLanes; ++lane) lanes[lane] += negative(i + lane);
  }
  for (; i < columns; ++i) lanes[0] += negative(i);
  T total = 0;
  for (const T lane : lanes) total += lane;
  if (wanted < 0) return total;
  return total + positive_term<T, kSquare>(focal, static_cast<T>(logits[wanted]), T(1)).loss;
}

template <typename Scalar>
Tensor losses_of_rows(const Tensor& logits, const Tensor& rows, const Tensor& classes,
                      Focal<double> given) {
  using T = Accumulate<Scalar>;
  constexpr ScalarType type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
  const int64_t all = logits.size(0), columns = logits.size(1), count = rows.size(0);
  Tensor kept[3];
  const Scalar* values = elements<Scalar>(logits, kept[0]);
  const int64_t* row = elements<int64_t>(rows, kept[1]);
  const int64_t* wanted = elements<int64_t>(classes, kept[2]);
  const auto known = [=](int64_t x) { return x >= 0 && x < all; };
  require(std::all_of(row, row + count, known), "an index of rows is out of range");
  const auto valid = [=](int64_t x) { return x < columns; };
  require(std::all_of(wanted, wanted + count, valid), "a class is not below the logits' columns");
  Tensor result = torch::stable::new_empty(logits, {count}, type);
  T* const out = static_cast<T*>(result.mutable_data_ptr());
  const Focal<T> focal{given.kind, static_cast<T>(given.alpha), static_cast<T>(given.gamma)};
  const auto run = [=](int64_t begin, int64_t end) INLINED {
    for (int64_t i = begin; i < end; ++i) {
      const Scalar* x = values + row[i] * columns;
      out[i] = wanted[i] == kIgnore  ? T(0)
               : focal.gamma == T(2) ? loss_of_row<Scalar, true>(x, columns, wanted[i], focal)
                                     : loss_of_row<Scalar, false>(x, columns, wanted[i], focal);
    }
  };
  const int64_t grain = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, columns));
  torch::stable::parallel_for(0, count, grain,
                              [&](int64_t begin, int64_t end) { with_widest(run, begin, end); });
  return result;
}

Tensor focal_rows(const Tensor& logits, const Tensor& rows, const Tensor& classes, double alpha,
                  double gamma) {
  require(logits.dim() == 2, "logits have shape " + shape_of(logits) + ", not (rows, classes)");
  require(logits.is_cpu() && rows.is_cpu() && classes.is_cpu(), "tensors are not on the CPU");
  require_rows(rows, rows.numel(), ScalarType::Long, "rows");
  require_rows(classes, rows.numel(), ScalarType::Long, "classes");
  return by_type(logits, "logits", [&](auto zero) {
    return losses_of_rows<decltype(zero)>(logits, rows, classes, {kSigmoid, alpha, gamma});
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("focal_loss", TORCH_BOX(&focal_loss));
  m.impl("focal_rows", TORCH_BOX(&focal_rows));
}

}  // namespace dynamic_atss
