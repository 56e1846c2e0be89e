// Gradient clipping, computed on the device: nothing here waits for a value.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace fornax {

// L2 norm over all gradients together: a float32 scalar on their device. `gradients` must not be empty.
at::Tensor totalNorm(const std::vector<at::Tensor>& gradients);

// Multiplies by max_norm / (norm + 1e-6) where that is below 1 (torch.nn.utils.clip_grad_norm_).
void clipByNorm(const std::vector<at::Tensor>& gradients, const at::Tensor& norm, double max_norm);

// Limits every element to [-limit, limit].
void clipByValue(const std::vector<at::Tensor>& gradients, double limit);

}  // namespace fornax
