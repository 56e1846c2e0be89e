// What a graph says of sizes, while it runs: expressions and guards over the shapes of what is in the slots.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "graph/spec.h"

namespace fornax {

// Throws c10::Error for a division by zero, an overflow, or a slot that is empty.
int64_t evaluateSize(const SizeExpr& expr, const std::vector<at::Tensor>& slots);

// Throws GuardError, with the module and both sides, unless the guard holds.
void checkGuard(const GuardSpec& guard, const std::vector<at::Tensor>& slots);

}  // namespace fornax
