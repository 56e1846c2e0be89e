#include "train/gradient_clip.h"

#include <ATen/ATen.h>

namespace fornax {

at::Tensor totalNorm(const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> norms = at::_foreach_norm(gradients, 2);
  for (at::Tensor& norm : norms) norm = norm.to(at::kFloat);
  return at::linalg_vector_norm(at::stack(norms));
}

void clipByNorm(const std::vector<at::Tensor>& gradients, const at::Tensor& norm, double max_norm) {
  at::_foreach_mul_(gradients, at::clamp_max(max_norm / (norm + 1e-6), 1.0));
}

void clipByValue(const std::vector<at::Tensor>& gradients, double limit) {
  at::_foreach_clamp_min_(gradients, -limit);
  at::_foreach_clamp_max_(gradients, limit);
}

}  // namespace fornax
