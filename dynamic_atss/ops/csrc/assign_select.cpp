// The best pairs of a box and the best pair of a prior; see dynamic_atss/assigners/base.py.
#include <algorithm>
#include <limits>
#include <tuple>

#include "assign.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kBackground = -1;

// Whether a comes before b, which lies further ahead in the list: as in torch.sort, NaN first.
template <typename T>
bool better(T a, T b) {
  return a > b || (a != a && b == b);
}

template <typename T>
struct Scored {
  T score;
  int64_t place;
};

// The k best of the places from `begin` to `end`, of equal ones the first, into `places`.
template <typename T>
void best_places(const T* score, const bool* exists, int64_t begin, int64_t end,
                 std::vector<Scored<T>>& best, int64_t* places) {
  const auto k = static_cast<int64_t>(best.size());
  int64_t size = 0;
  for (int64_t i = begin; i < end; ++i) {
    const T value = exists[i] ? score[i] : -std::numeric_limits<T>::infinity();
    if (size == k && !better(value, best[size - 1].score)) continue;
    int64_t at = size < k ? size++ : size - 1;
    for (; at > 0 && better(value, best[at - 1].score); --at) best[at] = best[at - 1];
    best[at] = {value, i};
  }
  for (int64_t i = 0; i < size; ++i) places[i] = exists[best[i].place] ? best[i].place : -1;
}

template <typename T>
void best_of_all(const Tensor& box, const Tensor& exists, const Tensor& score, int64_t k,
                 int64_t boxes, int64_t* places) {
  const int64_t of_each = pairs_of_each(box, score, "score"), rows = box.numel();
  const Values<int64_t> owner(box, "box");
  const Values<bool> real(exists, "exists");
  const Values<T> value(score, "score");
  std::vector<Scored<T>> best(k);
  for (int64_t first = 0, last = 0; first < rows; first = last) {
    const int64_t t = owner[first];
    if (t < 0 || t >= boxes || (first && owner[first - 1] > t)) {
      throw std::runtime_error("the pairs are not by box, or have more boxes than there are");
    }
    while (last < rows && owner[last] == t) ++last;
    best_places(value.data(), real.data(), first * of_each, last * of_each, best, places + t * k);
  }
}

Tensor best_of_box(const Tensor& box, const Tensor& exists, const Tensor& score, int64_t k,
                   int64_t boxes) {
  require_same_shape(exists, score, "exists");
  require(k > 0 && boxes >= 0, "k is below 1, or the number of boxes below 0");
  Tensor places = torch::stable::new_empty(score, {boxes, k}, ScalarType::Long);
  std::fill_n(mutable_values<int64_t>(places), boxes * k, -1);
  with_floats(score, "score", [&](auto zero) {
    best_of_all<decltype(zero)>(box, exists, score, k, boxes, mutable_values<int64_t>(places));
  });
  return places;
}

// Of the selected pairs of a prior the one of the largest score, then of the lowest box, wins; NaN
// leaves it to none.
template <typename S, typename Q>
void resolve_all(const Tensor& box, const Tensor& flat, const Tensor& exists,
                 const Tensor& selected, const Tensor& score, const Tensor& quality, int64_t slots,
                 int64_t* index, Q* won) {
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
      if (p < 0 || p >= slots) throw std::runtime_error("flat is not an index of a prior");
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
