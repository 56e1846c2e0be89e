// Running averages whose share is a number on the device.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace fornax {

// average ← average + share·(source − average), with `share` a scalar on the device; where it is 0, averages
// of finite numbers stay as they are to the bit, if their sources are finite as well. Needs memory for
// differences: of some tensors at a time.
void averageByShare(const std::vector<at::Tensor>& averages, const std::vector<at::Tensor>& sources,
                    const at::Tensor& share);

}  // namespace fornax
