#include "train/optim/average_by_share.h"

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>

namespace fornax {

namespace {

constexpr int64_t kMostBytes = 64 << 20;  // of the differences

}  // namespace

void averageByShare(const std::vector<at::Tensor>& averages, const std::vector<at::Tensor>& sources,
                    const at::Tensor& share) {
  for (size_t begin = 0; begin < averages.size();) {
    std::vector<at::Tensor> to, from;
    int64_t bytes = 0;
    for (; begin < averages.size() && (to.empty() || bytes < kMostBytes); ++begin) {
      to.push_back(averages[begin]);
      from.push_back(sources[begin]);
      bytes += static_cast<int64_t>(to.back().nbytes());
    }
    // There is no lerp of many tensors by one scalar on the device.
    const std::vector<at::Tensor> differences = at::_foreach_sub(from, to);
    at::_foreach_mul_(differences, share);
    at::_foreach_add_(to, differences);
  }
}

}  // namespace fornax
