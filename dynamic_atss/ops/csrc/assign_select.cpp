// Selects the best pairs of a box and the best pair of a prior; see
// dynamic_atss/assigners/reference/selection.py.
#include <algorithm>
#include <memory>
#include <tuple>

#include "assign_best.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kBackground = -1;
constexpr int64_t kGrain = 1 << 13;  // pairs per task, about 30 us

// Gives the first pair of each box, and the end of the list. Pairs are sorted by box.
std::vector<int64_t> begins_of_boxes(const Tensor& box, int64_t of_each, int64_t boxes) {
  const Values<int64_t> owner(box, "box");
  std::vector<int64_t> begins(boxes + 1, 0);
  const int64_t rows = box.numel();
  bool valid = true;
  for (int64_t r = 0; r < rows && valid; ++r) {
    const int64_t t = owner[r];
    valid = t >= 0 && t < boxes && (r == 0 || owner[r - 1] <= t);
    if (valid) begins[t + 1] = (r + 1) * of_each;
  }
  require(valid, "the pairs are not sorted by box, or a box is out of range");
  for (int64_t t = 0; t < boxes; ++t) begins[t + 1] = std::max(begins[t + 1], begins[t]);
  return begins;
}

template <typename T>
void best_of_all(const Tensor& box, const Tensor& exists, const Tensor& score, int64_t k,
                 int64_t boxes, int64_t* places) {
  const auto begins = begins_of_boxes(box, pairs_of_each(box, score, "score"), boxes);
  const Values<bool> real(exists, "exists");
  const Values<T> value(score, "score");
  const int64_t pairs = std::max<int64_t>(1, score.numel());
  static constexpr T kNone = -std::numeric_limits<T>::infinity();
  const auto find = [&](int64_t begin, int64_t end) INLINED {
    Best<T> best(k);
    for (int64_t t = begin; t < end; ++t) {
      const T* const its = value.data() + begins[t];
      const bool* const exists = real.data() + begins[t];
      int64_t* const place = places + t * k;
      const int64_t found = best.find(
          begins[t + 1] - begins[t], [=](int64_t i) INLINED { return exists[i] ? its[i] : kNone; },
          place);
      for (int64_t i = 0; i < found; ++i) place[i] += begins[t];
    }
  };
  torch::stable::parallel_for(0, boxes, std::max<int64_t>(1, boxes * kGrain / pairs),
                              [&](int64_t begin, int64_t end) { with_widest(find, begin, end); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> best_of_box(const Tensor& box, const Tensor& prior,
                                                       const Tensor& flat, const Tensor& exists,
                                                       const Tensor& score, int64_t k,
                                                       int64_t boxes) {
  require_same_shape(prior, score, "prior");
  require_same_shape(flat, score, "flat");
  require_same_shape(exists, score, "exists");
  require(k > 0 && boxes >= 0, "k must be at least 1, and the number of boxes at least 0");
  Tensor places = torch::stable::new_empty(score, {boxes, k}, ScalarType::Long);
  Tensor its_prior = torch::stable::new_empty(places, {boxes, k});
  Tensor its_flat = torch::stable::new_empty(places, {boxes, k});
  Tensor real = torch::stable::new_empty(places, {boxes, k}, ScalarType::Bool);
  int64_t* const place = mutable_values<int64_t>(places);
  std::fill_n(place, boxes * k, -1);
  with_floats(score, "score",
              [&](auto zero) { best_of_all<decltype(zero)>(box, exists, score, k, boxes, place); });
  const Values<int64_t> priors(prior, "prior"), flats(flat, "flat");
  const Values<bool> is_real(exists, "exists");
  const bool any = score.numel() > 0;
  bool* const found = mutable_values<bool>(real);
  int64_t* const prior_at = mutable_values<int64_t>(its_prior);
  int64_t* const flat_at = mutable_values<int64_t>(its_flat);
  for (int64_t i = 0; i < boxes * k; ++i) {
    found[i] = place[i] >= 0 && is_real[place[i]];
    place[i] = found[i] ? place[i] : 0;
    prior_at[i] = any ? priors[place[i]] : 0;
    flat_at[i] = any ? flats[place[i]] : 0;
  }
  return {places, its_prior, its_flat, real};
}

// Gives each prior the box of its selected pair with the largest score, then of the lowest box. A
// prior with a NaN score gets no box. The first pair of a prior sets its best score, so the scores
// need no initial values.
template <typename S, typename Q>
void resolve_all(const Tensor& box, const Tensor& flat, const Tensor& exists,
                 const Tensor& selected, const Tensor& score, const Tensor& quality, int64_t slots,
                 int64_t* index, Q* won) {
  const int64_t of_each = pairs_of_each(box, flat, "flat");
  const Values<int64_t> owner(box, "box"), slot(flat, "flat");
  const Values<bool> real(exists, "exists"), wanted(selected, "selected");
  const Values<S> value(score, "score");
  const Values<Q> share(quality, "quality");
  const std::unique_ptr<S[]> best(new S[slots]);
  std::vector<int64_t> spoilt;  // priors with a NaN score
  const int64_t rows = box.numel();
  for (int64_t r = 0, i = 0; r < rows; ++r) {
    const int64_t t = owner[r];
    for (const int64_t end = (r + 1) * of_each; i < end; ++i) {
      if (!wanted[i] || !real[i]) continue;
      const int64_t p = slot[i];
      if (p < 0 || p >= slots) throw std::runtime_error("flat is not an index of a prior");
      const S s = value[i];
      if (s != s) spoilt.push_back(p);
      if (index[p] == kBackground || s > best[p] || (s == best[p] && t <= index[p])) {
        best[p] = s;
        index[p] = t;
        won[p] = share[i];
      }
    }
  }
  for (const int64_t p : spoilt) {
    index[p] = kBackground;
    won[p] = 0;
  }
}

std::tuple<Tensor, Tensor> resolve(const Tensor& box, const Tensor& flat, const Tensor& exists,
                                   const Tensor& selected, const Tensor& score,
                                   const Tensor& quality, int64_t images, int64_t priors) {
  require_type(flat, ScalarType::Long, "flat");  // the result has its type
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
