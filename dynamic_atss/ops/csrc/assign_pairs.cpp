// What a rule asks of (box, prior) pairs; see dynamic_atss/assigners/pairs.py.
#include <algorithm>
#include <atomic>
#include <limits>

#include "assign_boxes.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 1 << 16;  // pairs of a task: some 250 us

// Calls `each(pair, row of values, box)` for all pairs; an index out of range is an error. A box
// below 0 is none, where `may_be_none`.
template <typename Each>
void for_pairs(const Tensor& values, const Tensor& index, const Tensor& boxes, const Tensor& box,
               const Each& each, bool may_be_none = false) {
  require_columns(boxes, 4, "gt boxes");
  const int64_t of_each = std::max<int64_t>(1, pairs_of_each(box, index, "index"));
  const int64_t rows = values.size(0), count = boxes.size(0);
  const int64_t least = may_be_none ? std::numeric_limits<int64_t>::min() : 0;
  const Values<int64_t> row(index, "index"), owner(box, "box");
  std::atomic<bool> fits{true};
  const auto run = [&](int64_t begin, int64_t end) {
    int64_t t = begin / of_each, left = of_each - begin % of_each;
    for (int64_t i = begin; i < end; ++i, --left) {
      if (!left) {
        ++t;
        left = of_each;
      }
      if (row[i] < 0 || row[i] >= rows || owner[t] < least || owner[t] >= count) {
        fits = false;
        return;
      }
      each(i, row[i], owner[t]);
    }
  };
  torch::stable::parallel_for(0, index.numel(), kGrain, run);
  require(fits, "an index is not that of a row, or a box not one of the gt boxes");
}

Tensor pair_iou(const Tensor& values, const Tensor& index, const Tensor& boxes, const Tensor& box,
                double extra) {
  require_columns(values, 4, "boxes");
  Tensor result = torch::stable::new_empty(values, index.sizes());
  with_floats(values, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> a(values, "boxes"), b(boxes, "gt boxes");
    T* const out = mutable_values<T>(result);
    const T more = static_cast<T>(extra);
    for_pairs(values, index, boxes, box, [&](int64_t i, int64_t row, int64_t t) {
      out[i] = iou(a.data() + 4 * row, b.data() + 4 * t, more);
    });
  });
  return result;
}

Tensor pair_sides(const Tensor& points, const Tensor& index, const Tensor& boxes,
                  const Tensor& box) {
  require_columns(points, 2, "points");
  std::vector<int64_t> shape{4};
  for (int64_t i = 0; i < index.dim(); ++i) shape.push_back(index.size(i));
  Tensor result = torch::stable::new_empty(points, shape);
  with_floats(points, "points", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> a(points, "points"), b(boxes, "gt boxes");
    const int64_t count = index.numel();
    T* const out = mutable_values<T>(result);
    for_pairs(points, index, boxes, box, [&](int64_t i, int64_t row, int64_t t) {
      const T* side = b.data() + 4 * t;
      const T x = a[2 * row], y = a[2 * row + 1];
      out[i] = x - side[0];
      out[count + i] = y - side[1];
      out[2 * count + i] = side[2] - x;
      out[3 * count + i] = side[3] - y;
    });
  });
  return result;
}

// Ratio of the nearer to the farther side, both ways; 0 outside. Its root is left to PyTorch, which
// does not round it as the C++ library does.
template <typename T>
T squared_centerness(const T* point, const T* box) {
  const T left = point[0] - box[0], right = box[2] - point[0];
  const T top = point[1] - box[1], bottom = box[3] - point[1];
  if (!(left > 0 && top > 0 && right > 0 && bottom > 0)) return 0;
  const T ratio = std::min(left, right) * std::min(top, bottom);
  const T whole = std::max(left, right) * std::max(top, bottom);
  return whole > 0 ? ratio / whole : 0;
}

Tensor pair_squared_centerness(const Tensor& points, const Tensor& index, const Tensor& boxes,
                               const Tensor& box) {
  require_columns(points, 2, "points");
  Tensor result = torch::stable::new_empty(points, index.sizes());
  with_floats(points, "points", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> a(points, "points"), b(boxes, "gt boxes");
    T* const out = mutable_values<T>(result);
    const auto each = [&](int64_t i, int64_t row, int64_t t) {
      out[i] = t < 0 ? T(0) : squared_centerness(a.data() + 2 * row, b.data() + 4 * t);
    };
    for_pairs(points, index, boxes, box, each, true);
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("pair_iou", TORCH_BOX(&pair_iou));
  m.impl("pair_squared_centerness", TORCH_BOX(&pair_squared_centerness));
  m.impl("pair_sides", TORCH_BOX(&pair_sides));
}

}  // namespace dynamic_atss
