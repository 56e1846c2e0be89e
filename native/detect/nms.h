// Non-maximum suppression with the +1 pixel convention of Fast R-CNN's py_cpu_nms.
#pragma once

#include <cstdint>
#include <vector>

namespace fornax {

struct Box {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

// Indices of the boxes that are kept, in order. `boxes` are sorted by falling score; one is dropped if a kept
// one before it overlaps it by more than `threshold`. A box from 3 to 3 is one pixel wide.
std::vector<int64_t> suppress(const std::vector<Box>& boxes, float threshold, int64_t keep_at_most);

}  // namespace fornax
