// Assigns each prior its box of the largest IoU, by thresholds; see
// dynamic_atss/assigners/reference/overlaps.py.
#include <limits>
#include <vector>

#include "assign_ranges.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kBackground = -1, kIgnore = -2;
constexpr int64_t kLanes = 8;
constexpr int64_t kGrain = 64;  // boxes per task, about 100 us

// Non-negative numbers sort like their bits, and the maximum of integers compiles to vector code.
int32_t bits_of(float x) { return __builtin_bit_cast(int32_t, x); }
int64_t bits_of(double x) { return __builtin_bit_cast(int64_t, x); }

template <typename T>
struct Overlaps {
  using Bits = decltype(bits_of(T()));

  const T *priors, *boxes;  // (P, 4), (T, 4)
  std::vector<Level> levels;
  std::vector<T> half;    // by level: how far outside a box an overlapping prior's centre may be
  int64_t anchors, size;  // number of anchors per location, and of priors
  T offset;

  int64_t* index;  // (P,) for one image
  T* best;         // (P,) for one image

  // A row of priors and its largest IoU with a box.
  struct Row {
    int64_t first, count;
    Bits largest;
  };

  // Adds box t. `overlap` and `rows` are reused memory.
  ALWAYS_INLINE void add(int64_t t, std::vector<T>& overlap, std::vector<Row>& rows,
                         std::vector<int64_t>& champions) const {
    const Box<T> box = box_at(boxes, t);
    rows.clear();
    Bits largest = 0;
    int64_t slot = 0;
    for (size_t l = 0; l < levels.size(); ++l) {
      const Box<T> region{box.x1 - half[l], box.y1 - half[l], box.x2 + half[l], box.y2 + half[l]};
      const Range range = range_of(region, levels[l], offset);
      // Rounds up to full vectors. Priors after the row's end are valid, too.
      const int64_t padded = (range.width * anchors + kLanes - 1) / kLanes * kLanes;
      overlap.resize(std::max<size_t>(overlap.size(), slot + padded * range.height));
      for (int64_t row = range.top; row < range.top + range.height; ++row) {
        const int64_t p = (levels[l].first + row * levels[l].width + range.left) * anchors;
        const int64_t count = std::min(padded, size - p);
        rows.push_back({p, count, add_row(box, t, p, count, overlap.data() + slot)});
        largest = std::max(largest, rows.back().largest);
        slot += count;
      }
    }
    if (largest > 0) list_champions(rows, overlap.data(), largest, champions);
  }

  // Computes the IoUs of a row with box t, and updates the best IoU of each prior. Returns the
  // largest IoU.
  ALWAYS_INLINE Bits add_row(const Box<T>& box, int64_t t, int64_t p, int64_t count,
                             T* __restrict__ overlap) const {
    const T* const row = priors + 4 * p;
    int64_t* const __restrict__ owner = index + p;
    T* const __restrict__ most = best + p;
    Bits largest = 0;
    for (int64_t i = 0; i < count; ++i) overlap[i] = iou(box_at(row, i), box, T(1));
    for (int64_t i = 0; i < count; ++i) owner[i] = overlap[i] > most[i] ? t : owner[i];
    for (int64_t i = 0; i < count; ++i) {
      most[i] = overlap[i] > most[i] ? overlap[i] : most[i];
      const Bits bits = bits_of(overlap[i]);
      largest = bits > largest ? bits : largest;
    }
    return largest;
  }

  // Lists the priors with the box's largest IoU. They are positive, also of another box.
  void list_champions(const std::vector<Row>& rows, const T* overlap, Bits largest,
                      std::vector<int64_t>& champions) const {
    for (const Row& row : rows) {
      for (int64_t i = 0; i < row.count && row.largest == largest; ++i) {
        if (bits_of(overlap[i]) == largest) champions.push_back(row.first + i);
      }
      overlap += row.count;
    }
  }

  // Removes the box of priors below the thresholds, except champions.
  ALWAYS_INLINE void select(T positive, T negative, const std::vector<int64_t>& champions) const {
    T* const most = best;
    int64_t* const owner = index;
    const int64_t count = size;
    for (const int64_t p : champions) most[p] = std::numeric_limits<T>::infinity();
    for (int64_t p = 0; p < count; ++p) {
      const int64_t other = most[p] >= negative ? kIgnore : kBackground;
      owner[p] = most[p] >= positive ? owner[p] : other;
    }
  }
};

template <typename T>
void label_all(Overlaps<T> find, const Values<int64_t>& image_index, int64_t images, int64_t count,
               T positive, T negative) {
  std::vector<T> best(images * find.size);
  find.best = best.data();
  std::fill_n(find.index, images * find.size, kBackground);
  const auto label = [&](int64_t begin, int64_t end) INLINED {
    std::vector<T> overlap;
    std::vector<typename Overlaps<T>::Row> rows;
    std::vector<int64_t> champions;
    for (int64_t n = begin; n < end; ++n) {
      Overlaps<T> here = find;
      here.index += n * find.size;
      here.best += n * find.size;
      champions.clear();
      for (int64_t t = 0; t < count; ++t) {
        if (image_index[t] == n) here.add(t, overlap, rows, champions);
      }
      here.select(positive, negative, champions);
    }
  };
  const int64_t grain = std::max<int64_t>(1, images * kGrain / std::max<int64_t>(1, count));
  torch::stable::parallel_for(0, images, grain,
                              [&](int64_t begin, int64_t end) { with_widest(label, begin, end); });
}

Tensor max_iou_labels(const Tensor& priors, const Tensor& boxes, const Tensor& image_index,
                      const Tensor& extent, std::vector<int64_t> flat_levels, double offset,
                      std::vector<double> margin, int64_t images, double positive,
                      double negative) {
  require_columns(priors, 4, "priors");
  require_columns(boxes, 4, "boxes");
  const auto levels = levels_of(flat_levels);
  require_columns(extent, 2, "extent");
  const int64_t size = priors.size(0), count = boxes.size(0);
  require_rows(image_index, count, ScalarType::Long, "image_index");
  require(margin.size() == levels.size(), "margin must have one number per level");
  const int64_t anchors = anchors_of(levels, size);
  const Values<int64_t> of(image_index, "image_index");
  require(within(of, count, images), "a box's image is not in the batch");
  Tensor index = torch::stable::new_empty(image_index, {images, size});
  with_floats(priors, "priors", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> prior(priors, "priors"), box(boxes, "boxes");
    std::vector<T> half;
    for (const double side : margin) half.push_back(static_cast<float>(side) / 2);
    const Overlaps<T> find{prior.data(),
                           box.data(),
                           levels,
                           half,
                           anchors,
                           size,
                           static_cast<T>(static_cast<float>(offset)),
                           mutable_values<int64_t>(index),
                           nullptr};
    label_all<T>(find, of, images, count, static_cast<T>(positive), static_cast<T>(negative));
  });
  return index;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("max_iou_labels", TORCH_BOX(&max_iou_labels));
}

}  // namespace dynamic_atss
