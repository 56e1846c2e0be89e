// What happens to parameters on the CPU after backward, over all tensors of a list in one parallel region, as
// operators (`fornax::sgd_`, …), so that whoever looks at the dispatcher sees them. libtorch's operators take
// the tensors one by one, a region each; and where weights are channels-last its fused optimizers copy every
// gradient into another layout, which they then do not read (FusedSGDKernel.cpp, FusedAdamKernel.cpp).
// Results do not depend on the number of threads. Tensors that are not dense float32 of one layout in all
// lists go to libtorch.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace fornax {

struct SgdUpdate {
  double lr, weight_decay, momentum, dampening;
  bool nesterov;
};
// torch.optim.SGD; `momenta` is empty without momentum. `rate` (scalar): goes before `lr`. `found_inf`
// (scalar): where it is not 0, nothing changes.
void sgdOnCpu(at::TensorList parameters, at::TensorList gradients, at::TensorList momenta,
              const SgdUpdate& update, const std::optional<at::Tensor>& rate,
              const std::optional<at::Tensor>& found_inf);

struct AdamUpdate {
  double lr, weight_decay, beta1, beta2, eps;
  bool decoupled;  // AdamW
};
// Counts in `steps` (float32 scalars), too. `largest` is empty without amsgrad.
void adamOnCpu(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
               at::TensorList squares, at::TensorList largest, at::TensorList steps, const AdamUpdate& update,
               const std::optional<at::Tensor>& rate, const std::optional<at::Tensor>& found_inf);

// average ← average + share·(source − average)
void averageOnCpu(at::TensorList averages, at::TensorList sources, double share);

// L2 norm over all elements together, a float32 scalar.
at::Tensor normOnCpu(at::TensorList tensors);

// Multiplies all by the scalar `factor`.
void scaleOnCpu(at::TensorList tensors, const at::Tensor& factor);

}  // namespace fornax
