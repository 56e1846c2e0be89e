// Class labels of a batch, looked at before they go to the device, where one out of range would end every
// later computation.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "data/batch.h"

namespace fornax {

// The field `name`: int64 [N], each from 0 to classes − 1. Where the labels still lie on the CPU, as the
// loader leaves them, nobody waits for a device. DataError names the sample.
const at::Tensor& checkedLabels(const Batch& batch, const std::string& name, int64_t classes);

}  // namespace fornax
