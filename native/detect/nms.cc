#include "detect/nms.h"

#include <algorithm>

namespace fornax {

std::vector<int64_t> suppress(const std::vector<Box>& boxes, float threshold, int64_t keep_at_most) {
  const auto count = static_cast<int64_t>(boxes.size());
  std::vector<float> area(boxes.size());
  for (int64_t i = 0; i < count; ++i) {
    area[i] = (boxes[i].x2 - boxes[i].x1 + 1) * (boxes[i].y2 - boxes[i].y1 + 1);
  }
  std::vector<char> dropped(boxes.size(), 0);
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < count && static_cast<int64_t>(kept.size()) < keep_at_most; ++i) {
    if (dropped[i]) continue;
    kept.push_back(i);
    const Box& best = boxes[i];
    for (int64_t j = i + 1; j < count; ++j) {
      const float width = std::min(best.x2, boxes[j].x2) - std::max(best.x1, boxes[j].x1) + 1;
      const float height = std::min(best.y2, boxes[j].y2) - std::max(best.y1, boxes[j].y1) + 1;
      const float shared = std::max(width, 0.0f) * std::max(height, 0.0f);
      // What is not a number is dropped, as in the original.
      if (!(shared / (area[i] + area[j] - shared) <= threshold)) dropped[j] = 1;
    }
  }
  return kept;
}

}  // namespace fornax
