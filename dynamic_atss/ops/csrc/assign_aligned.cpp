// The best pairs of task-aligned assignment; see dynamic_atss/assigners/task_aligned.py.
//
// Every logit lies in a line of memory of its own. Only those are read that may matter: of the k
// pairs of a box's largest IoUs, and then of all that would reach the least of these k if their
// score were 1.
#include <cstring>
#include <tuple>

#include "assign_best.h"
#include "assign_boxes.h"
#include "assign_ranges.h"
#include "focal.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 1 << 12;  // pairs of a task: some 20 us

// A row for each box, k places in each.
template <typename T>
struct Outputs {
  int64_t *prior, *flat;
  bool* exists;
  T *alignment, *overlap;
};

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
  const T *boxes, *predicted, *centers;  // (T, 4), (N * P, 4), (P, 2)
  Logits logits;                         // (N * P, columns)
  const int64_t *classes, *image;        // (T,)
  std::vector<Level> levels;
  std::vector<Range> ranges;  // of each box on each level
  int64_t priors, anchors, columns, k;
  T margin, alpha, beta;
};

template <typename T>
class Search {
 public:
  explicit Search(const Inputs<T>& in) : in_(in), best_(in.k), place_(in.k) {}

  ALWAYS_INLINE void find(int64_t t, const Outputs<T>& out) {
    const int64_t size = collect(t);
    const int64_t likely = sieve(size, sufficient_iou(t, size));
    align(t, likely);
    const int64_t found = best_.find(
        likely, [this](int64_t i) INLINED { return alignment_[i]; }, place_.data());
    for (int64_t i = 0; i < found; ++i) {
      const int64_t n = place_[i], at = t * in_.k + i;
      out.exists[at] = alignment_[n] > kNone;
      if (!out.exists[at]) break;  // nor do those behind it
      out.prior[at] = prior_[likely_[n]];
      out.flat[at] = in_.image[t] * in_.priors + prior_[likely_[n]];
      out.alignment[at] = alignment_[n];
      out.overlap[at] = overlap_[likely_[n]];
    }
  }

 private:
  static constexpr T kNone = -std::numeric_limits<T>::infinity();
  static constexpr T kTiny = static_cast<T>(1e-30f);  // as in task_aligned.py

  // The priors of the box's ranges, and the IoU of what they predict; 0 for those outside the box.
  ALWAYS_INLINE int64_t collect(int64_t t) {
    const auto levels = static_cast<int64_t>(in_.levels.size());
    const Range* const ranges = in_.ranges.data() + t * levels;
    int64_t size = 0;
    for (int64_t l = 0; l < levels; ++l) size += ranges[l].size() * in_.anchors;
    reserve(size);
    int64_t slot = 0;
    const T* const predicted = in_.predicted + 4 * in_.image[t] * in_.priors;
    for (int64_t l = 0; l < levels; ++l) {
      const Range& range = ranges[l];
      const int64_t count = range.width * in_.anchors;
      for (int64_t row = range.top; row < range.top + range.height; ++row, slot += count) {
        const Level& level = in_.levels[l];
        const int64_t first = (level.first + row * level.width + range.left) * in_.anchors;
        for (int64_t i = 0; i < count; ++i) prior_[slot + i] = first + i;
        std::copy_n(predicted + 4 * first, 4 * count, predicted_.data() + 4 * slot);
        std::copy_n(in_.centers + 2 * first, 2 * count, centers_.data() + 2 * slot);
      }
    }
    const Box<T> box = box_at(in_.boxes, t);
    const T *const boxes = predicted_.data(), *const point = centers_.data(), m = in_.margin;
    T* __restrict__ const overlap = overlap_.data();
    for (int64_t i = 0; i < size; ++i) {
      const T x = point[2 * i], y = point[2 * i + 1], o = iou(box_at(boxes, i), box, T(0));
      const bool inside =
          (x - box.x1 > m) & (y - box.y1 > m) & (box.x2 - x > m) & (box.y2 - y > m);
      overlap[i] = inside ? o : T(0);
    }
    return size;
  }

  ALWAYS_INLINE void reserve(int64_t size) {
    if (static_cast<int64_t>(prior_.size()) >= size) return;
    prior_.resize(size);
    likely_.resize(size);
    predicted_.resize(4 * size);
    centers_.resize(2 * size);
    overlap_.resize(size);
    iou_.resize(size);
    alignment_.resize(size);
  }

  // No pair below this is among the k best.
  ALWAYS_INLINE T sufficient_iou(int64_t t, int64_t size) {
    const int64_t found = best_.find(
        size, [this](int64_t i) INLINED { return overlap_[i]; }, place_.data());
    if (found < in_.k) return 0;
    std::copy_n(place_.data(), found, likely_.data());
    align(t, found);
    const T least = *std::min_element(alignment_.begin(), alignment_.begin() + found);
    const T logarithm = least / in_.beta;
    return logarithm > -60 ? Math<T>::exp(logarithm) * T(1 - 1e-4) : 0;  // with room for rounding
  }

  // Lists the pairs of at least this IoU, but none of 0.
  ALWAYS_INLINE int64_t sieve(int64_t size, T iou) {
    int64_t count = 0;
    for (int64_t i = 0; i < size; ++i) {
      likely_[count] = i;
      count += (overlap_[i] >= iou) & (overlap_[i] > 0);
    }
    return count;
  }

  // beta log IoU + alpha log score of the pairs that are listed; -inf where that is not finite.
  ALWAYS_INLINE void align(int64_t t, int64_t count) {
    const int64_t first = in_.image[t] * in_.priors;
    T *const __restrict__ alignment = alignment_.data(), *const __restrict__ iou = iou_.data();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + prior_[likely_[i]];
      alignment[i] = in_.logits.template at<T>(row * in_.columns + in_.classes[t]);
      iou[i] = std::max(overlap_[likely_[i]], kTiny);
    }
    for (int64_t i = 0; i < count; ++i) {
      const T sum =
          in_.beta * Math<T>::log(iou[i]) + in_.alpha * sigmoid<T>(alignment[i]).log_p;
      alignment[i] = sum > kNone ? sum : kNone;
    }
  }

  const Inputs<T>& in_;
  Best<T> best_;
  std::vector<int64_t> place_, prior_, likely_;
  std::vector<T> predicted_, centers_, overlap_, iou_, alignment_;
};

template <typename T>
std::vector<Range> ranges_of(const T* boxes, int64_t count, const std::vector<Level>& levels,
                             T offset) {
  std::vector<Range> ranges;
  ranges.reserve(count * levels.size());
  for (int64_t t = 0; t < count; ++t) {
    const T* const box = boxes + 4 * t;
    for (const Level& level : levels) {
      ranges.push_back(range_of(Region<T>{box[0], box[1], box[2], box[3]}, level, offset));
    }
  }
  return ranges;
}

template <typename T>
void find_all(const Inputs<T>& in, int64_t count, const Outputs<T>& out) {
  int64_t pairs = 1;
  for (const Range& range : in.ranges) pairs += range.size() * in.anchors;
  const auto find = [&](int64_t begin, int64_t end) INLINED {
    Search<T> search(in);
    for (int64_t t = begin; t < end; ++t) search.find(t, out);
  };
  torch::stable::parallel_for(0, count, std::max<int64_t>(1, count * kGrain / pairs),
                              [&](int64_t begin, int64_t end) { with_widest(find, begin, end); });
}

// Whether all of them are from 0 to limit - 1.
bool within(const Values<int64_t>& values, int64_t count, int64_t limit) {
  return std::all_of(values.data(), values.data() + count,
                     [=](int64_t x) { return x >= 0 && x < limit; });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> most_aligned(
    const Tensor& boxes, const Tensor& classes, const Tensor& image, const Tensor& /*extent*/,
    const Tensor& predicted, const Tensor& logits, const Tensor& centers,
    std::vector<int64_t> flat_levels, double offset, double margin, double alpha, double beta,
    int64_t k) {
  const auto levels = levels_of(flat_levels);
  require_columns(boxes, 4, "boxes");
  require_columns(centers, 2, "centers");
  const int64_t count = boxes.size(0), priors = centers.size(0);
  require_rows(classes, count, ScalarType::Long, "classes");
  require_rows(image, count, ScalarType::Long, "image");
  require(predicted.dim() == 3 && predicted.size(1) == priors && predicted.size(2) == 4,
          "predicted boxes have shape " + shape_of(predicted) + ", not (images, priors, 4)");
  const int64_t images = predicted.size(0);
  require(logits.dim() == 3 && logits.size(0) == images && logits.size(1) == priors,
          "logits have shape " + shape_of(logits) + ", not (images, priors, classes)");
  require_search(k, offset);
  const int64_t anchors = anchors_of(levels, priors);
  const Values<int64_t> wanted(classes, "classes"), its(image, "image");
  require(within(wanted, count, logits.size(2)), "a class is not one of the logits' columns");
  require(within(its, count, images), "an image is not one of those of the predictions");
  const auto blank = [&](ScalarType type) {
    Tensor x = torch::stable::new_empty(boxes, {count, k}, type);
    std::memset(x.mutable_data_ptr(), 0, x.numel() * x.element_size());
    return x;
  };
  Tensor prior = blank(ScalarType::Long), flat = blank(ScalarType::Long);
  Tensor exists = blank(ScalarType::Bool);
  Tensor alignment = blank(boxes.scalar_type()), overlap = blank(boxes.scalar_type());
  const Tensor rows = torch::stable::contiguous(logits);
  by_type(rows, "logits", [](auto) {});  // any of these
  with_floats(boxes, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> box(boxes, "boxes"), found(predicted, "predicted boxes"),
        center(centers, "centers");
    const Outputs<T> out{mutable_values<int64_t>(prior), mutable_values<int64_t>(flat),
                         mutable_values<bool>(exists), mutable_values<T>(alignment),
                         mutable_values<T>(overlap)};
    const Inputs<T> in{box.data(),
                       found.data(),
                       center.data(),
                       {rows.const_data_ptr(), rows.scalar_type()},
                       wanted.data(),
                       its.data(),
                       levels,
                       ranges_of(box.data(), count, levels, static_cast<T>(offset)),
                       priors,
                       anchors,
                       logits.size(2),
                       k,
                       static_cast<T>(static_cast<float>(margin)),
                       static_cast<T>(alpha),
                       static_cast<T>(beta)};
    find_all(in, count, out);
  });
  return {prior, flat, exists, alignment, overlap};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) { m.impl("most_aligned", TORCH_BOX(&most_aligned)); }

}  // namespace dynamic_atss
