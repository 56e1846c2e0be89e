// Batch norm over the batches of all processes together. torch's own exists for CUDA only; this one is made
// of sums over the processes, so it runs wherever they can be summed. One sum forward, one backward.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <memory>
#include <optional>
#include <vector>

#include "core/error.h"
#include "dist/process_group.h"
#include "graph/spec.h"

namespace fornax {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::shared_ptr<ProcessGroup> findGroup(int64_t id) {
  auto group = ProcessGroup::find(id);
  if (!group) {
    throw Error(ErrorKind::Train, "the connection to the other processes was closed", "sync_batch_norm");
  }
  return group;
}

// All dimensions but that of the channels.
std::vector<int64_t> reducedDimensions(const at::Tensor& x) {
  std::vector<int64_t> dimensions{0};
  for (int64_t i = 2; i < x.dim(); ++i) dimensions.push_back(i);
  return dimensions;
}

// [C] → [1, C, 1, …]
at::Tensor perChannel(const at::Tensor& values, const at::Tensor& x) {
  std::vector<int64_t> shape(x.dim(), 1);
  shape[1] = -1;
  return values.view(shape);
}

class SyncBatchNorm : public torch::autograd::Function<SyncBatchNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& running_mean,
                            const std::optional<at::Tensor>& running_var, double momentum, double eps,
                            int64_t group) {
    const at::Tensor values = x.to(at::kFloat);
    const int64_t channels = x.size(1);
    const double count = static_cast<double>(x.numel() / channels);
    auto [var, mean] = at::var_mean(values, reducedDimensions(x), /*correction=*/0);
    // In double, so that moments about zero can be added and taken about the mean again (Chan et al. 1979).
    mean = mean.to(at::kDouble);
    var = var.to(at::kDouble);
    const at::Tensor sums =
        at::cat({mean * count, (var + mean * mean) * count, at::full({1}, count, mean.options())});
    findGroup(group)->sum(sums);
    const at::Tensor total = sums.narrow(0, 2 * channels, 1);
    mean = sums.narrow(0, 0, channels) / total;
    var = (sums.narrow(0, channels, channels) / total - mean * mean).clamp_min(0);
    if (running_mean) {
      running_mean->mul_(1 - momentum).add_(mean.to(running_mean->scalar_type()), momentum);
      // Unbiased; a single value in all has no variance.
      const at::Tensor unbiased = var * (total / (total - 1).clamp_min(1));
      running_var->mul_(1 - momentum).add_(unbiased.to(running_var->scalar_type()), momentum);
    }
    const at::Tensor inverse = (var + eps).rsqrt();
    at::Tensor scale = inverse;
    if (weight) scale = scale * weight->to(at::kDouble);
    at::Tensor shift = -mean * scale;
    if (bias) shift = shift + bias->to(at::kDouble);
    context->save_for_backward(
        {x, weight.value_or(at::Tensor()), mean.to(at::kFloat), inverse.to(at::kFloat), total});
    context->saved_data["group"] = group;
    return at::addcmul(perChannel(shift.to(at::kFloat), x), values, perChannel(scale.to(at::kFloat), x))
        .to(x.scalar_type());
  }

  // Ioffe & Szegedy 2015, section 3, with sums over all processes where the gradient of the input needs them.
  // Those of weight and bias are this process's share: they are summed like all other gradients.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &inverse = saved[3],
                     &total = saved[4];
    const at::Tensor gradient = gradients[0].to(at::kFloat);
    const std::vector<int64_t> dimensions = reducedDimensions(x);
    const at::Tensor normalized = (x.to(at::kFloat) - perChannel(mean, x)) * perChannel(inverse, x);
    const at::Tensor of_bias = gradient.sum(dimensions);
    const at::Tensor of_weight = (gradient * normalized).sum(dimensions);
    const at::Tensor sums = at::cat({of_bias, of_weight}).to(at::kDouble);
    findGroup(context->saved_data["group"].toInt())->sum(sums);
    at::Tensor of_x;
    if (context->needs_input_grad(0)) {
      const at::Tensor means = (sums / total).to(at::kFloat).view({2, -1});
      at::Tensor scale = inverse;
      if (weight.defined()) scale = scale * weight.to(at::kFloat);
      of_x =
          ((gradient - perChannel(means[0], x) - normalized * perChannel(means[1], x)) * perChannel(scale, x))
              .to(x.scalar_type());
    }
    const at::Tensor none;
    return {
        of_x, weight.defined() ? of_weight.to(weight.scalar_type()) : none, of_bias, none, none, none, none,
        none};
  }
};

at::Tensor syncBatchNorm(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                         const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& running_mean,
                         const std::optional<at::Tensor>& running_var,
                         const std::optional<at::Tensor>& batches_tracked, int64_t mode,
                         std::optional<double> momentum, double eps, int64_t group) {
  if (static_cast<Mode>(mode) != Mode::Train) {
    using BatchNorm =
        at::Tensor(const at::Tensor&, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                   const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                   const std::optional<at::Tensor>&, int64_t, std::optional<double>, double);
    static const auto plain =
        c10::Dispatcher::singleton().findSchemaOrThrow("fornax::batch_norm", "").typed<BatchNorm>();
    return plain.call(x, weight, bias, running_mean, running_var, batches_tracked, mode, momentum, eps);
  }
  double factor = momentum.value_or(0);
  if (running_mean && running_mean->defined() && batches_tracked && batches_tracked->defined()) {
    const c10::NoGradGuard no_grad;
    batches_tracked->add_(1);
    if (!momentum) factor = 1.0 / static_cast<double>(batches_tracked->item<int64_t>());
  }
  return SyncBatchNorm::apply(x, weight, bias, running_mean, running_var, factor, eps, group);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def(
      "sync_batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_var, Tensor(c!)? num_batches_tracked, int mode, float? momentum, float eps, "
      "int group) -> Tensor",
      syncBatchNorm);
}

}  // namespace fornax
