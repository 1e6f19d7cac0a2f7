// Finds priors inside a region of each box; see dynamic_atss/assigners/reference/inside.py.
#include <tuple>

#include "assign_ranges.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kGrain = 1 << 13;  // pairs per task, about 20 us

struct Outputs {
  int64_t *box, *prior, *flat;
  bool* exists;
};

template <typename T>
struct Inside {
  const T *boxes, *centers;    // (T, 4), (P, 2)
  const int64_t* image_index;  // (T,)
  std::vector<Level> levels;
  std::vector<T> reach;  // by level, or empty
  int64_t priors, anchors;
  float offset, radius, margin;

  // Cuts a box to `radius` strides around its centre.
  Box<T> center_region(const Box<T>& box, const Level& level) const {
    if (radius == 0) return box;
    const T half = static_cast<T>(static_cast<float>(level.stride) * radius);
    const Point<T> at = center(box);
    return {std::max(at.x - half, box.x1), std::max(at.y - half, box.y1),
            std::min(at.x + half, box.x2), std::min(at.y + half, box.y2)};
  }

  Range range(int64_t t, size_t l) const {
    const Box<T> box = box_at(boxes, t);
    Box<T> region = center_region(box, levels[l]);
    if (!reach.empty()) {
      region.x1 = std::max(region.x1, box.x2 - reach[l]);
      region.y1 = std::max(region.y1, box.y2 - reach[l]);
      region.x2 = std::min(region.x2, box.x1 + reach[l]);
      region.y2 = std::min(region.y2, box.y1 + reach[l]);
    }
    return range_of(region, levels[l], static_cast<T>(offset));
  }

  // Lists the pairs of one box on one level in the places from `slot` to `end`.
  void list(int64_t t, size_t l, const Range& range, int64_t slot, int64_t end,
            const Outputs& out) const {
    const Level& level = levels[l];
    const Box<T> region = center_region(box_at(boxes, t), level);
    const int64_t first = image_index[t] * priors;
    const T least = static_cast<T>(margin);
    for (int64_t row = range.top; row < range.top + range.height; ++row) {
      const int64_t begin = (level.first + row * level.width + range.left) * anchors;
      const int64_t count = std::min(range.width * anchors, end - slot);
      for (int64_t i = 0; i < count; ++i) {
        out.prior[slot + i] = begin + i;
        out.flat[slot + i] = first + begin + i;
        const T* const point = centers + 2 * (begin + i);
        out.exists[slot + i] = inside({point[0], point[1]}, region, least);
      }
      slot += count;
      if (slot == end) return;
    }
  }
};

// Fills the places after the last pair.
template <typename T>
void list_none(const Inside<T>& find, int64_t box, int64_t slot, int64_t end, const Outputs& out) {
  std::fill(out.box + slot, out.box + end, box);
  std::fill(out.prior + slot, out.prior + end, 0);
  std::fill(out.flat + slot, out.flat + end, find.image_index[box] * find.priors);
  std::fill(out.exists + slot, out.exists + end, false);
}

template <typename T>
void list_all(const Inside<T>& find, int64_t count, int64_t length, const Outputs& out) {
  const auto levels = static_cast<int64_t>(find.levels.size());
  std::vector<Range> ranges(count * levels);
  std::vector<int64_t> begin(count + 1);  // of each box's pairs
  for (int64_t t = 0; t < count; ++t) {
    begin[t + 1] = begin[t];
    for (int64_t l = 0; l < levels; ++l) {
      ranges[t * levels + l] = find.range(t, l);
      begin[t + 1] += ranges[t * levels + l].size() * find.anchors;
    }
  }
  const int64_t total = std::min(begin[count], length);
  const int64_t grain = std::max<int64_t>(1, count * kGrain / std::max<int64_t>(1, total));
  torch::stable::parallel_for(0, count, grain, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      int64_t slot = begin[t];
      std::fill(out.box + std::min(slot, length), out.box + std::min(begin[t + 1], length), t);
      for (int64_t l = 0; l < levels && slot < length; ++l) {
        const Range& range = ranges[t * levels + l];
        find.list(t, l, range, slot, length, out);
        slot += range.size() * find.anchors;
      }
    }
  });
  if (count) list_none(find, count - 1, total, length, out);
}

template <typename T>
std::vector<T> cast(const std::vector<double>& values) {
  std::vector<T> result;
  for (const double x : values) result.push_back(static_cast<T>(static_cast<float>(x)));
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> points_inside(
    const Tensor& boxes, const Tensor& image_index, const Tensor& centers,
    std::vector<int64_t> flat_levels, double offset, double radius, std::vector<double> reach,
    double margin, int64_t length) {
  const auto levels = levels_of(flat_levels);
  require_columns(boxes, 4, "boxes");
  require_columns(centers, 2, "centers");
  const int64_t count = boxes.size(0), priors = centers.size(0);
  require_rows(image_index, count, ScalarType::Long, "image_index");
  require(reach.empty() || reach.size() == levels.size(), "reach must have one number per level");
  const int64_t anchors = anchors_of(levels, priors);
  require(length >= 0 && (count || !length), "length must be at least 0, and 0 without boxes");
  const int64_t slots = length * anchors;
  Tensor tensors[4];
  for (int i = 0; i < 4; ++i) {
    const ScalarType type = i < 3 ? ScalarType::Long : ScalarType::Bool;
    tensors[i] = torch::stable::new_empty(boxes, {slots}, type);
  }
  const Outputs out{mutable_values<int64_t>(tensors[0]), mutable_values<int64_t>(tensors[1]),
                    mutable_values<int64_t>(tensors[2]), mutable_values<bool>(tensors[3])};
  with_floats(boxes, "boxes", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> box(boxes, "boxes"), center(centers, "centers");
    const Values<int64_t> of(image_index, "image_index");
    list_all(Inside<T>{box.data(), center.data(), of.data(), levels, cast<T>(reach), priors,
                       anchors, static_cast<float>(offset), static_cast<float>(radius),
                       static_cast<float>(margin)},
             count, slots, out);
  });
  return {tensors[0], tensors[1], tensors[2], tensors[3]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("points_inside", TORCH_BOX(&points_inside));
}

}  // namespace dynamic_atss
