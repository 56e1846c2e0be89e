#include "train/optim/gradient_clip.h"

#include <ATen/ATen.h>

#include "train/optim/cpu_update.h"

namespace fornax {

at::Tensor totalNorm(const std::vector<at::Tensor>& gradients) {
  if (gradients.front().is_cpu()) return normOnCpu(gradients);
  std::vector<at::Tensor> norms = at::_foreach_norm(gradients, 2);
  for (at::Tensor& norm : norms) norm = norm.to(at::kFloat);
  return at::linalg_vector_norm(at::stack(norms));
}

void clipByNorm(const std::vector<at::Tensor>& gradients, const at::Tensor& norm, double max_norm) {
  const at::Tensor factor = at::clamp_max(max_norm / (norm + 1e-6), 1.0);
  factor.is_cpu() ? scaleOnCpu(gradients, factor) : at::_foreach_mul_(gradients, factor);
}

void clipByValue(const std::vector<at::Tensor>& gradients, double limit) {
  at::_foreach_clamp_min_(gradients, -limit);
  at::_foreach_clamp_max_(gradients, limit);
}

}  // namespace fornax
