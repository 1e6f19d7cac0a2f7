// Computes values of (box, prior) pairs; see dynamic_atss/assigners/reference/pairs.py.
//
// Handles pairs in blocks: copies their values into columns, and then computes with vectors.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "assign_boxes.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 1 << 13;  // pairs per task, about 20 us
constexpr int64_t kBlock = 64;

// The row of a table and the gt box of each pair. With `may_be_none`, a box below 0 stands for no
// box.
class __attribute__((visibility("hidden"))) Indices {
 public:
  Indices(const Tensor& index, int64_t rows, const Tensor& box, int64_t boxes, bool may_be_none)
      : row_(index, "index"),
        box_(box, "box"),
        rows_(rows),
        boxes_(boxes),
        of_each_(std::max<int64_t>(1, pairs_of_each(box, index, "index"))),
        size_(index.numel()),
        may_be_none_(may_be_none) {}

  // Calls `run(first pair, number of pairs, their rows, their boxes)` for each block. Throws if an
  // index is out of range.
  template <typename Run>
  void each_block(const Run& run) const {
    std::atomic<bool> valid{true};
    torch::stable::parallel_for(0, size_, kGrain, [&](int64_t begin, int64_t end) {
      with_widest([&]() INLINED {
        int64_t row[kBlock], box[kBlock];
        bool good = true;
        for (int64_t first = begin; first < end && good; first += kBlock) {
          const int64_t count = std::min(kBlock, end - first);
          good = look_up(first, count, row, box);
          if (good) run(first, count, row, box);
        }
        if (!good) valid = false;
      });
    });
    require(valid, "an index or a box is out of range");
  }

 private:
  // Copies a block. Returns whether all its indices are in range.
  ALWAYS_INLINE bool look_up(int64_t first, int64_t count, int64_t* row, int64_t* box) const {
    std::copy_n(row_.data() + first, count, row);
    if (of_each_ == 1) std::copy_n(box_.data() + first, count, box);
    for (int64_t i = 0, next; of_each_ > 1 && i < count; i = next) {
      const int64_t t = (first + i) / of_each_;
      next = std::min(count, (t + 1) * of_each_ - first);
      std::fill(box + i, box + next, box_[t]);
    }
    // `signs` becomes negative if one of these is. Sums and ors compile to vector code everywhere.
    uint64_t signs = 0;
    const uint64_t last_row = rows_ - 1, last_box = boxes_ - 1;
    for (int64_t i = 0; i < count; ++i) signs |= row[i] | (last_row - row[i]);
    for (int64_t i = 0; i < count && !may_be_none_; ++i) signs |= box[i];
    for (int64_t i = 0; i < count; ++i) signs |= last_box - std::max<int64_t>(box[i], -1);
    return static_cast<int64_t>(signs) >= 0;
  }

  const Values<int64_t> row_, box_;
  const int64_t rows_, boxes_, of_each_, size_;
  const bool may_be_none_;
};

// Calls `compute(prior, box, pair)` for the pairs of rows of `values` (rows, kWidth) and gt boxes.
// No box has coordinates of 0.
template <typename T, int kWidth, typename Compute>
void each_pair(const Tensor& values, const char* name, const Tensor& index, const Tensor& boxes,
               const Tensor& box, const Compute& compute, bool may_be_none = false) {
  require_columns(values, kWidth, name);
  require_columns(boxes, 4, "gt boxes");
  const Values<T> from(values, name), sides(boxes, "gt boxes");
  const Indices indices(index, values.size(0), box, boxes.size(0), may_be_none);
  indices.each_block([&, a = from.data(), b = sides.data()](int64_t first, int64_t count,
                                                            const int64_t* row,
                                                            const int64_t* t) INLINED {
    static constexpr T kNone[4] = {0, 0, 0, 0};
    T prior[kBlock * kWidth], side[kBlock * 4];
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(prior + kWidth * i, a + kWidth * row[i], kWidth * sizeof(T));
      std::memcpy(side + 4 * i, t[i] < 0 ? kNone : b + 4 * t[i], 4 * sizeof(T));
    }
    for (int64_t i = 0; i < count; ++i) {
      compute(prior + kWidth * i, box_at(side, i), first + i);
    }
  });
}

Tensor pair_iou(const Tensor& values, const Tensor& index, const Tensor& boxes, const Tensor& box,
                double offset) {
  Tensor result = torch::stable::new_empty(values, index.sizes());
  with_floats(values, "boxes", [&](auto zero) {
    using T = decltype(zero);
    T* const __restrict__ out = mutable_values<T>(result);
    const T added = static_cast<T>(offset);
    each_pair<T, 4>(values, "boxes", index, boxes, box,
                    [=](const T* prior, const Box<T>& box, int64_t pair)
                        INLINED { out[pair] = iou(box_at(prior, 0), box, added); });
  });
  return result;
}

Tensor pair_sides(const Tensor& points, const Tensor& index, const Tensor& boxes,
                  const Tensor& box) {
  std::vector<int64_t> shape{4};
  for (int64_t i = 0; i < index.dim(); ++i) shape.push_back(index.size(i));
  Tensor result = torch::stable::new_empty(points, shape);
  with_floats(points, "points", [&](auto zero) {
    using T = decltype(zero);
    T* const __restrict__ out = mutable_values<T>(result);
    each_pair<T, 2>(points, "points", index, boxes, box,
                    [=, step = index.numel()](const T* point, const Box<T>& side, int64_t pair)
                        INLINED {
                          out[pair] = point[0] - side.x1;
                          out[pair + step] = point[1] - side.y1;
                          out[pair + 2 * step] = side.x2 - point[0];
                          out[pair + 3 * step] = side.y2 - point[1];
                        });
  });
  return result;
}

// Gives the square root of the ratios of nearer to farther side in x and y, 0 outside the box.
template <typename T>
ALWAYS_INLINE T centerness(T x, T y, const Box<T>& box) {
  const T left = x - box.x1, right = box.x2 - x, top = y - box.y1, bottom = box.y2 - y;
  const T nearer = std::min(left, right) * std::min(top, bottom);
  const T farther = std::max(left, right) * std::max(top, bottom);
  const bool inside = (left > 0) & (top > 0) & (right > 0) & (bottom > 0) & (farther > 0);
  return std::sqrt(inside ? nearer / farther : 0);
}

Tensor pair_centerness(const Tensor& points, const Tensor& index, const Tensor& boxes,
                       const Tensor& box) {
  Tensor result = torch::stable::new_empty(points, index.sizes());
  with_floats(points, "points", [&](auto zero) {
    using T = decltype(zero);
    T* const __restrict__ out = mutable_values<T>(result);
    each_pair<T, 2>(
        points, "points", index, boxes, box,
        [=](const T* prior, const Box<T>& box, int64_t pair)
            INLINED { out[pair] = centerness(prior[0], prior[1], box); },
        /*may_be_none=*/true);
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("pair_iou", TORCH_BOX(&pair_iou));
  m.impl("pair_sides", TORCH_BOX(&pair_sides));
  m.impl("pair_centerness", TORCH_BOX(&pair_centerness));
}

}  // namespace dynamic_atss
