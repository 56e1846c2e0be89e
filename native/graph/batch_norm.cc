#include "graph/batch_norm.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "graph/spec.h"

namespace fornax {

BatchNormStep beginBatchNorm(const at::Tensor& x, const std::optional<at::Tensor>& running_mean,
                             const std::optional<at::Tensor>& batches_tracked, int64_t mode_value,
                             std::optional<double> momentum) {
  TORCH_CHECK(mode_value >= 0 && mode_value <= 2, "mode must be 0 (eval), 1 (train) or 2 (recompute), got ",
              mode_value);
  const Mode mode = static_cast<Mode>(mode_value);
  const bool tracked = running_mean && running_mean->defined();
  BatchNormStep step{mode != Mode::Eval || !tracked, mode != Mode::Eval && tracked, momentum.value_or(0)};
  if (step.moves) {
    if (batches_tracked && batches_tracked->defined()) {
      const c10::NoGradGuard no_grad;
      batches_tracked->add_(1);
      if (!momentum && mode == Mode::Train && !batches_tracked->is_meta()) {
        step.factor = 1.0 / static_cast<double>(batches_tracked->item<int64_t>());
      }
    }
    if (mode == Mode::Recompute) step.factor = 1.0;
  }
  if (step.training && x.dim() >= 2 && x.sym_numel() == x.sym_size(1)) {
    TORCH_CHECK(false, "batch norm in training needs more than one value per channel, got ", x.sym_sizes());
  }
  return step;
}

}  // namespace fornax
