// The best pairs of a box and the best pair of a prior; see dynamic_atss/assigners/base.py.
#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#include "assign.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kBackground = -1;

template <typename T>
struct Scored {
  T score;
  int64_t place;
};

// Whether a comes before b, which lies further ahead in the list: as in torch.sort, NaN first.
template <typename T>
bool better(T a, T b) {
  return a > b || (a != a && b == b);
}

// Marks the k best of the places from `begin` to `end`, of equal ones the first.
template <typename T>
void mark_best(const T* score, const bool* exists, int64_t begin, int64_t end, int64_t k,
               std::vector<Scored<T>>& best, bool* marks) {
  k = std::max<int64_t>(0, std::min(k, end - begin));
  if (static_cast<int64_t>(best.size()) < k) best.resize(k);
  int64_t size = 0;
  for (int64_t i = begin; i < end; ++i) {
    marks[i] = false;
    const T value = exists[i] ? score[i] : -std::numeric_limits<T>::infinity();
    if (size == k && (k == 0 || !better(value, best[size - 1].score))) continue;
    int64_t at = size < k ? size++ : size - 1;
    for (; at > 0 && better(value, best[at - 1].score); --at) best[at] = best[at - 1];
    best[at] = {value, i};
  }
  for (int64_t i = 0; i < size; ++i) marks[best[i].place] = exists[best[i].place];
}

template <typename T>
void mark_all(const Tensor& box, const Tensor& exists, const Tensor& score, const int64_t* counts,
              int64_t boxes, int64_t k, bool* marks) {
  const int64_t of_each = pairs_of_each(box, score, "score");
  const Values<int64_t> owner(box, "box");
  const Values<bool> real(exists, "exists");
  const Values<T> value(score, "score");
  std::vector<Scored<T>> best;
  const int64_t rows = box.numel();
  for (int64_t first = 0, last = 0; first < rows; first = last) {
    const int64_t t = owner[first];
    while (last < rows && owner[last] == t) ++last;
    require(!counts || (t >= 0 && t < boxes), "a box has no count");
    mark_best(value.data(), real.data(), first * of_each, last * of_each, counts ? counts[t] : k,
              best, marks);
  }
}

Tensor best_of_box(const Tensor& box, const Tensor& exists, const Tensor& score,
                   std::optional<Tensor> counts, int64_t k) {
  require_same_shape(exists, score, "exists");
  Tensor marks = torch::stable::new_empty(score, score.sizes(), ScalarType::Bool);
  std::optional<Values<int64_t>> own;
  if (counts) {
    require_rows(*counts, counts->numel(), ScalarType::Long, "counts");
    own.emplace(*counts, "counts");
  }
  with_floats(score, "score", [&](auto zero) {
    mark_all<decltype(zero)>(box, exists, score, own ? own->data() : nullptr,
                             own ? counts->numel() : 0, k, mutable_values<bool>(marks));
  });
  return marks;
}

// Of the selected pairs of a prior the one of the largest score, then of the lowest box, wins; NaN
// leaves it to none.
template <typename S, typename Q>
void resolve_all(const Tensor& box, const Tensor& flat, const Tensor& exists,
                 const Tensor& selected, const Tensor& score, const Tensor& quality,
                 int64_t slots, int64_t* index, Q* won) {
  const int64_t of_each = pairs_of_each(box, flat, "flat");
  const Values<int64_t> owner(box, "box"), slot(flat, "flat");
  const Values<bool> real(exists, "exists"), wanted(selected, "selected");
  const Values<S> value(score, "score");
  const Values<Q> share(quality, "quality");
  std::vector<S> best(slots, -std::numeric_limits<S>::infinity());
  const int64_t rows = box.numel();
  for (int64_t r = 0, i = 0; r < rows; ++r) {
    const int64_t t = owner[r];
    for (const int64_t end = (r + 1) * of_each; i < end; ++i) {
      if (!wanted[i] || !real[i]) continue;
      const int64_t p = slot[i];
      require(p >= 0 && p < slots, "flat is not an index of a prior");
      const S s = value[i];
      if (s > best[p] || (s == best[p] && (index[p] == kBackground || t <= index[p]))) {
        best[p] = s;
        index[p] = t;
        won[p] = share[i];
      } else if (s != s) {
        best[p] = s;
        index[p] = kBackground;
        won[p] = 0;
      }
    }
  }
}

std::tuple<Tensor, Tensor> resolve(const Tensor& box, const Tensor& flat, const Tensor& exists,
                                   const Tensor& selected, const Tensor& score,
                                   const Tensor& quality, int64_t images, int64_t priors) {
  require_same_shape(exists, flat, "exists");
  require_same_shape(selected, flat, "selected");
  require_same_shape(score, flat, "score");
  require_same_shape(quality, flat, "quality");
  require(images >= 0 && priors >= 0, "the number of images or priors is negative");
  Tensor index = torch::stable::new_empty(flat, {images, priors});
  Tensor won = torch::stable::new_empty(quality, {images, priors});
  const int64_t slots = images * priors;
  std::fill_n(mutable_values<int64_t>(index), slots, kBackground);
  with_floats(quality, "quality", [&](auto q) {
    using Q = decltype(q);
    std::fill_n(mutable_values<Q>(won), slots, Q(0));
    with_floats(score, "score", [&](auto s) {
      resolve_all<decltype(s), Q>(box, flat, exists, selected, score, quality, slots,
                                  mutable_values<int64_t>(index), mutable_values<Q>(won));
    });
  });
  return {index, won};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("best_of_box", TORCH_BOX(&best_of_box));
  m.impl("resolve", TORCH_BOX(&resolve));
}

}  // namespace dynamic_atss
