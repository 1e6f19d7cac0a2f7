// The best pairs of task-aligned assignment; see dynamic_atss/assigners/task_aligned.py.
//
// Every logit lies in a line of memory of its own. Only those are read that may matter: of the k
// pairs of a box's largest IoUs, and then of all that would reach the least of these k if their
// score were 1.
#include <tuple>

#include "assign_best.h"
#include "assign_candidates.h"
#include "assign_ranges.h"
#include "focal.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 1 << 12;  // pairs of a task: some 20 us

// Logits of any type, one by one.
struct Logits {
  const void* data;
  ScalarType type;

  template <typename T>
  ALWAYS_INLINE T at(int64_t i) const {
    switch (type) {
      case ScalarType::Double:
        return static_cast<T>(static_cast<const double*>(data)[i]);
      case ScalarType::BFloat16:
        return static_cast<T>(static_cast<const torch::headeronly::BFloat16*>(data)[i]);
      case ScalarType::Half:
        return static_cast<T>(static_cast<const torch::headeronly::Half*>(data)[i]);
      default:
        return static_cast<T>(static_cast<const float*>(data)[i]);
    }
  }
};

template <typename T>
struct Inputs {
  const T *boxes, *anchors, *predicted;  // (T, 4), (P, 4), (N * P, 4)
  Logits logits;                         // (N * P, columns)
  const int64_t *classes, *image;        // (T,)
  std::vector<Level> levels;
  std::vector<Range> ranges;  // of each box on each level
  int64_t priors, per_location, columns, k;
  T margin, alpha, beta;
};

template <typename T>
class Search {
 public:
  explicit Search(const Inputs<T>& in) : in_(in), best_(in.k), place_(in.k) {}

  // Pairs of box t into its row, with their alignments and overlaps.
  ALWAYS_INLINE void find(int64_t t, const BestPairs& pairs, T* alignment, T* overlap) {
    collect(t);
    sieve(sufficient_iou(t));
    align(t);
    const int64_t found = best_.find(
        likely_count_, [this](int64_t i) INLINED { return alignment_[i]; }, place_.data());
    for (int64_t i = 0; i < found && alignment_[place_[i]] > kNone; ++i) {
      const int64_t n = likely_[place_[i]], at = t * in_.k + i;
      pairs.set(at, candidates_.prior(n), in_.image[t] * in_.priors);
      alignment[at] = alignment_[place_[i]];
      overlap[at] = overlap_[n];
    }
  }

 private:
  static constexpr T kNone = -std::numeric_limits<T>::infinity();
  static constexpr T kTiny = static_cast<T>(1e-30f);  // as in task_aligned.py

  // The priors of the box's ranges, and the IoU of what they predict; 0 for those outside the box.
  ALWAYS_INLINE void collect(int64_t t) {
    const auto levels = static_cast<int64_t>(in_.levels.size());
    const Range* const ranges = in_.ranges.data() + t * levels;
    int64_t size = 0;
    for (int64_t l = 0; l < levels; ++l) size += ranges[l].size() * in_.per_location;
    reserve(size);
    const T* const predicted = in_.predicted + 4 * in_.image[t] * in_.priors;
    for (int64_t l = 0; l < levels; ++l) {
      const Level& level = in_.levels[l];
      for (int64_t row = ranges[l].top; row < ranges[l].top + ranges[l].height; ++row) {
        const int64_t first = level.first + row * level.width + ranges[l].left;
        candidates_.add(first * in_.per_location, ranges[l].width * in_.per_location,
                        {in_.anchors, predicted});
      }
    }
    const Box<T> box = box_at(in_.boxes, t);
    const T *const anchors = candidates_.boxes(0), *const predicted_box = candidates_.boxes(1);
    const T margin = in_.margin;
    T* __restrict__ const overlap = overlap_.data();
    for (int64_t i = 0; i < size; ++i) {
      const T o = iou(box_at(predicted_box, i), box, T(0));
      overlap[i] = inside(center(box_at(anchors, i)), box, margin) ? o : T(0);
    }
  }

  void reserve(int64_t size) {
    candidates_.reset(size);
    if (static_cast<int64_t>(likely_.size()) >= size) return;
    likely_.resize(size);
    overlap_.resize(size);
    iou_.resize(size);
    alignment_.resize(size);
  }

  // No pair below this is among the k best.
  ALWAYS_INLINE T sufficient_iou(int64_t t) {
    likely_count_ = best_.find(
        candidates_.size(), [this](int64_t i) INLINED { return overlap_[i]; }, place_.data());
    if (likely_count_ < in_.k || in_.beta < kTiny) return 0;
    std::copy_n(place_.data(), in_.k, likely_.data());
    align(t);
    const T least = *std::min_element(alignment_.begin(), alignment_.begin() + in_.k);
    const T logarithm = least / in_.beta;
    return logarithm > -60 ? Math<T>::exp(logarithm) * T(1 - 1e-4) : 0;  // with room for rounding
  }

  // Lists the candidates of at least this IoU, but none of 0.
  ALWAYS_INLINE void sieve(T iou) {
    likely_count_ = 0;
    for (int64_t i = 0; i < candidates_.size(); ++i) {
      likely_[likely_count_] = i;
      likely_count_ += (overlap_[i] >= iou) & (overlap_[i] > 0);
    }
  }

  // beta log IoU + alpha log score of those that are listed; -inf where that is not finite.
  ALWAYS_INLINE void align(int64_t t) {
    const int64_t first = in_.image[t] * in_.priors;
    T* const __restrict__ alignment = alignment_.data(), * const __restrict__ iou = iou_.data();
    for (int64_t i = 0; i < likely_count_; ++i) {
      const int64_t row = first + candidates_.prior(likely_[i]);
      alignment[i] = in_.logits.template at<T>(row * in_.columns + in_.classes[t]);
      iou[i] = std::max(overlap_[likely_[i]], kTiny);
    }
    for (int64_t i = 0; i < likely_count_; ++i) {
      const T sum = in_.beta * Math<T>::log(iou[i]) + in_.alpha * sigmoid<T>(alignment[i]).log_p;
      alignment[i] = sum > kNone ? sum : kNone;
    }
  }

  const Inputs<T>& in_;
  Best<T> best_;
  Candidates<T, 2> candidates_;
  std::vector<T> overlap_;  // of each
  int64_t likely_count_ = 0;
  std::vector<int64_t> place_, likely_;  // `likely_` are those of which logits are read
  std::vector<T> iou_, alignment_;       // of these
};

template <typename T>
std::vector<Range> ranges_of(const T* boxes, int64_t count, const std::vector<Level>& levels,
                             T offset) {
  std::vector<Range> ranges;
  ranges.reserve(count * levels.size());
  for (int64_t t = 0; t < count; ++t) {
    for (const Level& level : levels) {
      ranges.push_back(range_of(box_at(boxes, t), level, offset));
    }
  }
  return ranges;
}

template <typename T>
void find_all(const Inputs<T>& in, int64_t count, const BestPairs& pairs, T* alignment,
              T* overlap) {
  int64_t looks = 1;
  for (const Range& range : in.ranges) looks += range.size() * in.per_location;
  const auto find = [&](int64_t begin, int64_t end) INLINED {
    Search<T> search(in);
    for (int64_t t = begin; t < end; ++t) search.find(t, pairs, alignment, overlap);
  };
  torch::stable::parallel_for(0, count, std::max<int64_t>(1, count * kGrain / looks),
                              [&](int64_t begin, int64_t end) { with_widest(find, begin, end); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> most_aligned(
    const Tensor& boxes, const Tensor& classes, const Tensor& image, const Tensor& extent,
    const Tensor& predicted, const Tensor& logits, const Tensor& anchors,
    std::vector<int64_t> flat_levels, double offset, double margin, double alpha, double beta,
    int64_t k) {
  const auto levels = levels_of(flat_levels);
  require_columns(boxes, 4, "boxes");
  require_columns(anchors, 4, "anchors");
  require_columns(extent, 2, "extent");
  const int64_t count = boxes.size(0), priors = anchors.size(0);
  require_rows(classes, count, ScalarType::Long, "classes");
  require_rows(image, count, ScalarType::Long, "image");
  require(predicted.dim() == 3 && predicted.size(1) == priors && predicted.size(2) == 4,
          "predicted boxes have shape " + shape_of(predicted) + ", not (images, priors, 4)");
  const int64_t images = predicted.size(0);
  require(logits.dim() == 3 && logits.size(0) == images && logits.size(1) == priors,
          "logits have shape " + shape_of(logits) + ", not (images, priors, classes)");
  require_search(k, offset);
  const int64_t per_location = anchors_of(levels, priors);
  const Values<int64_t> wanted(classes, "classes"), its(image, "image");
  require(within(wanted, count, logits.size(2)), "a class is not one of the logits' columns");
  require(within(its, count, images), "an image is not one of those of the predictions");
  const BestPairs pairs(boxes, count, k);
  Tensor alignment = BestPairs::blank(boxes, count, k, boxes.scalar_type());
  Tensor overlap = BestPairs::blank(boxes, count, k, boxes.scalar_type());
  const Tensor rows = torch::stable::contiguous(logits);
  by_type(rows, "logits", [](auto) {});  // any of these
  with_floats(boxes, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> box(boxes, "boxes"), prior(anchors, "anchors"),
        found(predicted, "predicted boxes");
    const Inputs<T> in{box.data(),
                       prior.data(),
                       found.data(),
                       {rows.const_data_ptr(), rows.scalar_type()},
                       wanted.data(),
                       its.data(),
                       levels,
                       ranges_of(box.data(), count, levels, static_cast<T>(offset)),
                       priors,
                       per_location,
                       logits.size(2),
                       k,
                       static_cast<T>(static_cast<float>(margin)),
                       static_cast<T>(alpha),
                       static_cast<T>(beta)};
    find_all(in, count, pairs, mutable_values<T>(alignment), mutable_values<T>(overlap));
  });
  return {pairs.prior, pairs.flat, pairs.exists, alignment, overlap};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("most_aligned", TORCH_BOX(&most_aligned));
}

}  // namespace dynamic_atss
