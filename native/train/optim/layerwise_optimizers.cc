#include "train/optim/layerwise_optimizers.h"

#include <ATen/ATen.h>

#include <utility>

#include "train/optim/gradient_clip.h"
#include "train/optim/optimizer_checks.h"

namespace fornax {

namespace {

using Tensors = std::vector<at::Tensor>;

// Norms of tensors, float32 [n].
at::Tensor normsOf(const Tensors& tensors) {
  Tensors norms = at::_foreach_norm(tensors, 2);
  for (at::Tensor& norm : norms) norm = norm.to(at::kFloat);
  return at::stack(norms);
}

// `ratio`, or 1 where either norm is 0.
at::Tensor whereBoth(const at::Tensor& weight, const at::Tensor& update, const at::Tensor& ratio) {
  return at::where(at::logical_and(weight.gt(0), update.gt(0)), ratio, at::ones_like(ratio));
}

}  // namespace

Lamb::Lamb(const LambOptions& options, std::vector<OptimizerGroup> groups)
    : BetaOptimizer(options, std::move(groups), {{"step", true}, {"exp_avg"}, {"exp_avg_sq"}}) {
  requireNotNegative(options.eps, "eps");
  requireOption(!options.max_grad_norm || *options.max_grad_norm > 0, "max_grad_norm", "greater than 0");
}

void Lamb::prepare(const Tensors& gradients) {
  if (!options_.max_grad_norm) return;
  divisor_ = (totalNorm(gradients) / *options_.max_grad_norm).clamp_min(1);
}

void Lamb::apply(const Bucket& bucket) {
  Tensors gradients = bucket.gradients;
  if (options_.max_grad_norm) gradients = at::_foreach_div(gradients, divisor_);
  const at::Tensor steps = countSteps(bucket.slots[0]);
  const Tensors& mean = bucket.slots[1];
  const Tensors& square = bucket.slots[2];
  const Number beta1 = momentum(options_.beta1);
  updateMoments(mean, square, gradients, beta1, options_.beta2);
  // Without averaging the gradient enters with its full weight.
  if (!options_.grad_averaging) addScaled(mean, gradients, beta1.tensor(steps));

  Tensors denominator = at::_foreach_sqrt(square);
  Tensors updates;
  if (options_.bias_correction) {
    const at::Tensor mean_correction = 1 - power(beta1, steps);
    const at::Tensor square_correction = 1 - power(Number(options_.beta2), steps);
    at::_foreach_div_(denominator, square_correction.sqrt().unbind());
    updates = at::_foreach_div(mean, mean_correction.unbind());
  } else {
    updates = at::_foreach_mul(mean, 1);
  }
  at::_foreach_add_(denominator, options_.eps);
  at::_foreach_div_(updates, denominator);

  const at::Tensor rate = rateOf(bucket);
  if (options_.decoupled)
    decay(bucket, rate);
  else if (bucket.weight_decay != 0)
    at::_foreach_add_(updates, bucket.parameters, bucket.weight_decay);
  if (bucket.weight_decay != 0 || options_.always_adapt) {
    const at::Tensor weight_norms = normsOf(bucket.parameters);
    const at::Tensor update_norms = normsOf(updates);
    at::Tensor ratios = whereBoth(weight_norms, update_norms, weight_norms / update_norms);
    if (options_.trust_clip) ratios = ratios.clamp_max(1);
    at::_foreach_mul_(updates, ratios.unbind());
  }
  addScaled(bucket.parameters, updates, -rate);
}

Lars::Lars(const LarsOptions& options, std::vector<OptimizerGroup> groups)
    : ForeachOptimizer(std::move(groups),
                       options.momentum == 0 ? std::vector<Slot>{} : std::vector<Slot>{{"momentum_buffer"}}),
      options_(options) {
  requireNotNegative(options.momentum, "momentum");
  requireOption(!options.nesterov || options.momentum > 0, "nesterov", "used with a momentum above 0");
  requireNotNegative(options.trust_coeff, "trust_coeff");
  requireNotNegative(options.eps, "eps");
}

void Lars::apply(const Bucket& bucket) {
  Tensors gradients = bucket.gradients;
  const double decay = bucket.weight_decay;
  const at::Tensor rate = rateOf(bucket);
  if (decay != 0 || options_.always_adapt) {
    const at::Tensor weight_norms = normsOf(bucket.parameters);
    const at::Tensor gradient_norms = normsOf(gradients);
    at::Tensor ratios = whereBoth(
        weight_norms, gradient_norms,
        options_.trust_coeff * weight_norms / (gradient_norms + weight_norms * decay + options_.eps));
    if (options_.trust_clip) ratios = (ratios / rate).clamp_max(1);
    gradients = at::_foreach_add(gradients, bucket.parameters, decay);
    at::_foreach_mul_(gradients, ratios.unbind());
  }
  if (options_.momentum == 0) {
    addScaled(bucket.parameters, gradients, -rate);
    return;
  }
  // A buffer that starts at zero equals one that starts as the first gradient.
  const Tensors& buffer = bucket.slots[0];
  const Number kept = momentum(options_.momentum);
  scaleBy(buffer, kept);
  at::_foreach_add_(buffer, gradients, 1);
  addScaled(bucket.parameters, options_.nesterov ? ahead(gradients, buffer, kept) : buffer, -rate);
}

}  // namespace fornax
