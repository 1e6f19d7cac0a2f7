// Checks the arguments of NMS on every device.
#pragma once

#include <algorithm>
#include <optional>

#include "tensors.h"

namespace dynamic_atss {

struct NmsSizes {
  int64_t images, columns;  // N, K
  int64_t limit;            // L, at most K
};

inline NmsSizes nms_sizes(const Tensor& boxes, const Tensor& scores, const Tensor& classes,
                          double threshold, std::optional<int64_t> limit) {
  require_on(scores, boxes, "boxes and scores");
  require_on(scores, classes, "classes and scores");
  require(scores.dim() == 2, "scores have shape " + shape_of(scores) + ", not (N, K)");
  const int64_t images = scores.size(0), columns = scores.size(1);
  require(
      boxes.dim() == 3 && boxes.size(0) == images && boxes.size(1) == columns && boxes.size(2) == 4,
      "boxes have shape " + shape_of(boxes) + ", not (N, K, 4) as scores " + shape_of(scores));
  require(classes.dim() == 2 && classes.size(0) == images && classes.size(1) == columns,
          "classes have shape " + shape_of(classes) + ", not " + shape_of(scores));
  require(classes.scalar_type() == ScalarType::Long, "classes must be int64");
  require(
      boxes.scalar_type() == scores.scalar_type() &&
          (scores.scalar_type() == ScalarType::Float || scores.scalar_type() == ScalarType::Double),
      "boxes and scores must both be float32 or both be float64");
  require(columns < INT32_MAX, "too many candidates");
  require(threshold >= 0, "threshold must be a number of at least 0");
  require(!limit || *limit > 0, "limit must be at least 1");
  return {images, columns, std::min(columns, limit.value_or(columns))};
}

}  // namespace dynamic_atss
