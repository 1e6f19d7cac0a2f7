// Every prior's box of the largest IoU; see dynamic_atss/assigners/max_iou.py.
#include <tuple>

#include "assign_boxes.h"
#include "assign_ranges.h"

namespace dynamic_atss {
namespace {

constexpr int64_t kBackground = -1;
constexpr int64_t kGrain = 128;  // boxes of a task: some 400 us

template <typename T>
struct Overlaps {
  const T *priors, *boxes;  // (P, 4), (T, 4)
  std::vector<Level> levels;
  std::vector<T> half;  // by level: how far beyond a box the centre of a prior that overlaps may be
  int64_t anchors;
  T offset;

  int64_t* index;  // (P,), as all that follow: of one image
  T* best;
  bool* claimed;

  // IoUs of one row of priors with box t; `largest` is the largest of the box so far, `champions`
  // the priors that have it.
  void visit(int64_t t, int64_t begin, int64_t count, std::vector<T>& overlap, T& largest,
             std::vector<int64_t>& champions) const {
    overlap.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      overlap[i] = iou(priors + 4 * (begin + i), boxes + 4 * t, T(1));
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t p = begin + i;
      if (overlap[i] > best[p]) {
        best[p] = overlap[i];
        index[p] = t;
      }
      if (overlap[i] < largest || !(overlap[i] > 0)) continue;
      if (overlap[i] > largest) champions.clear();
      largest = overlap[i];
      champions.push_back(p);
    }
  }

  void add(int64_t t, std::vector<T>& overlap, std::vector<int64_t>& champions) const {
    const T* box = boxes + 4 * t;
    T largest = 0;
    champions.clear();
    for (size_t l = 0; l < levels.size(); ++l) {
      const Region<T> region{box[0] - half[l], box[1] - half[l], box[2] + half[l],
                             box[3] + half[l]};
      const Range range = range_of(region, levels[l], offset);
      for (int64_t row = range.top; row < range.top + range.height; ++row) {
        const int64_t first = levels[l].first + row * levels[l].width + range.left;
        visit(t, first * anchors, range.width * anchors, overlap, largest, champions);
      }
    }
    for (const int64_t p : champions) claimed[p] = true;
  }
};

std::tuple<Tensor, Tensor, Tensor> largest_overlaps(const Tensor& priors, const Tensor& boxes,
                                                    const Tensor& image,
                                                    std::vector<int64_t> flat_levels, double offset,
                                                    std::vector<double> margin, int64_t images,
                                                    int64_t /* length */) {
  require_columns(priors, 4, "priors");
  require_columns(boxes, 4, "boxes");
  const auto levels = levels_of(flat_levels);
  const int64_t size = priors.size(0), count = boxes.size(0), places = locations_of(levels);
  require_rows(image, count, ScalarType::Long, "image");
  require(margin.size() == levels.size(), "margin has not one number by level");
  require(places ? size % places == 0 : size == 0,
          "the levels have " + std::to_string(places) + " locations, of which " +
              std::to_string(size) + " priors are no multiple");
  const Values<int64_t> of(image, "image");
  for (int64_t t = 0; t < count; ++t) {
    require(of[t] >= 0 && of[t] < images, "a box is of no image of the batch");
  }
  Tensor index = torch::stable::new_empty(image, {images, size});
  Tensor best = torch::stable::new_empty(priors, {images, size});
  Tensor claimed = torch::stable::new_empty(priors, {images, size}, ScalarType::Bool);
  with_floats(priors, "priors", [&](auto zero) {
    using T = decltype(zero);
    const Values<T> prior(priors, "priors"), box(boxes, "boxes");
    std::vector<T> half;
    for (const double side : margin) half.push_back(static_cast<float>(side) / 2);
    const int64_t anchors = places ? size / places : 1;
    const int64_t grain = std::max<int64_t>(1, images * kGrain / std::max<int64_t>(1, count));
    torch::stable::parallel_for(0, images, grain, [&](int64_t begin, int64_t end) {
      std::vector<T> overlap;
      std::vector<int64_t> champions;
      for (int64_t n = begin; n < end; ++n) {
        const Overlaps<T> find{prior.data(),
                               box.data(),
                               levels,
                               half,
                               anchors,
                               static_cast<T>(static_cast<float>(offset)),
                               mutable_values<int64_t>(index) + n * size,
                               mutable_values<T>(best) + n * size,
                               mutable_values<bool>(claimed) + n * size};
        std::fill_n(find.index, size, kBackground);
        std::fill_n(find.best, size, T(0));
        std::fill_n(find.claimed, size, false);
        for (int64_t t = 0; t < count; ++t) {
          if (of[t] == n) find.add(t, overlap, champions);
        }
      }
    });
  });
  return {index, best, claimed};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dynamic_atss, CPU, m) {
  m.impl("largest_overlaps", TORCH_BOX(&largest_overlaps));
}

}  // namespace dynamic_atss
