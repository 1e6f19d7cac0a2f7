// The anchors of the largest IoU with each box; see dynamic_atss/assigners/topk.py.
#include <tuple>

#include "assign_best.h"
#include "assign_boxes.h"
#include "assign_candidates.h"
#include "assign_lattice.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 32;  // boxes of a task: some 20 us

template <typename T>
struct Inputs {
  const T *anchors, *boxes;  // (P, 4), (T, 4)
  const int64_t* image;      // (T,)
  std::vector<Level> levels;
  std::vector<T> longest;  // distance of a prior in each image
  int64_t priors, per_location, k;
  float offset;
};

template <typename T>
ALWAYS_INLINE T length(T x, T y) {
  return std::sqrt(x * x + y * y);
}

// From the centres of an image's boxes to the outermost locations of the levels; 1 at least.
template <typename T>
std::vector<T> longest_distances(const Inputs<T>& in, int64_t count, int64_t images) {
  std::vector<T> result(images, T(1));
  for (int64_t t = 0; t < count; ++t) {
    const Point<T> at = center(box_at(in.boxes, t));
    for (const Level& level : in.levels) {
      const auto stride = static_cast<T>(level.stride), first = static_cast<T>(in.offset) * stride;
      const T right = (static_cast<T>(level.width - 1) + static_cast<T>(in.offset)) * stride;
      const T bottom = (static_cast<T>(level.height - 1) + static_cast<T>(in.offset)) * stride;
      for (const T x : {first, right}) {
        for (const T y : {first, bottom}) {
          const T far = length(at.x - x, at.y - y);
          T& most = result[in.image[t]];
          if (std::isfinite(far) && far > most) most = far;
        }
      }
    }
  }
  return result;
}

template <typename T>
class Search {
 public:
  explicit Search(const Inputs<T>& in)
      : in_(in), around_(in.k, /*square=*/false), best_(in.k), place_(in.k) {
    int64_t most = 0;
    for (const Level& level : in.levels) {
      most += std::min(around_.size(), level.locations()) * in.per_location;
    }
    candidates_.reset(most);
    overlap_.resize(most);
    score_.resize(most);
  }

  // Pairs of box t into its row, with their overlaps.
  ALWAYS_INLINE void find(int64_t t, const BestPairs& pairs, T* overlap) {
    const Box<T> box = box_at(in_.boxes, t);
    collect(box);
    score(box, in_.longest[in_.image[t]]);
    const int64_t found = best_.find(
        candidates_.size(), [this](int64_t i) INLINED { return score_[i]; }, place_.data());
    for (int64_t i = 0; i < found; ++i) {
      pairs.set(t * in_.k + i, candidates_.prior(place_[i]), in_.image[t] * in_.priors);
      overlap[t * in_.k + i] = overlap_[place_[i]];
    }
  }

 private:
  ALWAYS_INLINE void collect(const Box<T>& box) {
    const Point<T> at = center(box);
    candidates_.reset(0);
    for (const Level& level : in_.levels) {
      around_.each_row(at.x, at.y, level, in_.offset, [&](int64_t first, int64_t count) INLINED {
        candidates_.add(first * in_.per_location, count * in_.per_location, {in_.anchors});
      });
    }
  }

  ALWAYS_INLINE void score(const Box<T>& box, T longest) {
    const Point<T> at = center(box);
    const T* const anchors = candidates_.boxes(0);
    T* const __restrict__ overlap = overlap_.data(), * const __restrict__ score = score_.data();
    for (int64_t i = 0; i < candidates_.size(); ++i) {
      const Box<T> anchor = box_at(anchors, i);
      const Point<T> from = center(anchor);
      const T away = length(from.x - at.x, from.y - at.y);
      overlap[i] = iou(anchor, box, T(1));
      score[i] = overlap[i] - away / longest / 1000;
    }
  }

  const Inputs<T>& in_;
  Around<T> around_;
  Best<T> best_;
  Candidates<T, 1> candidates_;
  std::vector<int64_t> place_;
  std::vector<T> overlap_, score_;
};

std::tuple<Tensor, Tensor, Tensor, Tensor> most_overlapping(const Tensor& anchors,
                                                            const Tensor& boxes,
                                                            const Tensor& image, int64_t images,
                                                            std::vector<int64_t> flat_levels,
                                                            double offset, int64_t k) {
  const auto levels = levels_of(flat_levels);
  require_columns(anchors, 4, "anchors");
  require_columns(boxes, 4, "boxes");
  require_search(k, offset);
  const int64_t count = boxes.size(0), priors = anchors.size(0);
  require_rows(image, count, ScalarType::Long, "image");
  const Values<int64_t> its(image, "image");
  require(images >= 0 && within(its, count, images), "an image is not one of so many");
  const int64_t per_location = anchors_of(levels, priors);
  const BestPairs pairs(boxes, count, k);
  Tensor overlap = BestPairs::blank(boxes, count, k, boxes.scalar_type());
  with_floats(boxes, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> prior(anchors, "anchors"), box(boxes, "boxes");
    Inputs<T> in{prior.data(), box.data(), its.data(),
                 levels,       {},         priors,
                 per_location, k,          static_cast<float>(offset)};
    in.longest = longest_distances(in, count, images);
    T* const out = mutable_values<T>(overlap);
    const auto find = [&](int64_t begin, int64_t end) INLINED {
      Search<T> search(in);
      for (int64_t t = begin; t < end; ++t) search.find(t, pairs, out);
    };
    torch::stable::parallel_for(0, count, kGrain,
                                [&](int64_t begin, int64_t end) { with_widest(find, begin, end); });
  });
  return {pairs.prior, pairs.flat, pairs.exists, overlap};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("most_overlapping", TORCH_BOX(&most_overlapping));
}

}  // namespace dynamic_atss
