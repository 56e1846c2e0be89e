#include "train/optim/fused_optimizers.h"

#include <ATen/ATen.h>

#include <optional>

#include "train/optim/cpu_update.h"
#include "train/optim/optimizer_checks.h"

namespace fornax {

namespace {

using Tensors = std::vector<at::Tensor>;

std::optional<at::Tensor> optional(const at::Tensor* tensor) {
  return tensor && tensor->defined() ? std::optional<at::Tensor>(*tensor) : std::nullopt;
}

bool onCpu(const std::vector<at::Tensor>& bucket) {
  return bucket.front().is_cpu();
}

// The overload for a rate on the device, or that for a number.
template <typename Function>
void withRate(const at::Tensor& on_device, double number, const Function& function) {
  on_device.defined() ? function(on_device) : function(number);
}

// The operators expect step counts that already include this step, and leave everything alone where found_inf
// is 1: then the count is taken back, or bias correction would drift.
void takeBackSteps(const std::vector<at::Tensor>& steps, const at::Tensor* found_inf) {
  if (found_inf) at::_foreach_sub_(steps, std::vector<at::Tensor>(steps.size(), *found_inf));
}

}  // namespace

// Slots of SGD: the momentum buffer; with dampening also the count of updates. A buffer that starts at zero
// equals torch's, which starts as a copy of the first gradient, as long as the first update is not dampened.
Sgd::Sgd(const SgdOptions& options, std::vector<OptimizerGroup> groups)
    : ForeachOptimizer(std::move(groups), options.momentum == 0 ? std::vector<Slot>{}
                                          : options.dampening == 0
                                              ? std::vector<Slot>{{"momentum_buffer"}}
                                              : std::vector<Slot>{{"momentum_buffer"}, {"step", true}}),
      options_(options) {
  requireShare(options.momentum, "momentum");
  requireOption(options.dampening >= 0 && options.dampening <= 1, "dampening", "between 0 and 1");
  requireOption(!options.nesterov || (options.momentum > 0 && options.dampening == 0), "nesterov",
                "used with a momentum above 0 and without dampening");
}

// Without momentum there are no buffers to begin with.
bool Sgd::takeMomentum(double momentum) {
  if (options_.momentum == 0) return false;
  options_.momentum = atLeastTiny(momentum);
  return true;
}

void Sgd::update(const Bucket& bucket, const at::Tensor* found_inf) {
  const bool dampened = options_.momentum != 0 && options_.dampening != 0;
  if (hasMomentumOnDevice() || (dampened && (bucket.rate.defined() || !onCpu(bucket.parameters)))) {
    ForeachOptimizer::update(bucket, found_inf);
  } else if (dampened) {
    updateDampened(bucket, found_inf);
  } else {
    run(bucket, 0, found_inf);
  }
}

void Sgd::apply(const Bucket& bucket) {
  const at::Tensor rate = rateOf(bucket);
  Tensors gradients = penalised(bucket);
  if (options_.momentum == 0) return addScaled(bucket.parameters, gradients, -rate);
  const Tensors& buffer = bucket.slots[0];
  const Number kept = momentum(options_.momentum);
  scaleBy(buffer, kept);
  if (options_.dampening == 0) {
    at::_foreach_add_(buffer, gradients, 1);
  } else {
    const at::Tensor steps = countSteps(bucket.slots[1]);
    const at::Tensor shares = 1 - steps.gt(1).to(at::kDouble) * options_.dampening;
    at::_foreach_add_(buffer, at::_foreach_mul(gradients, shares.unbind()));
  }
  addScaled(bucket.parameters, options_.nesterov ? ahead(gradients, buffer, kept) : buffer, -rate);
}

// On the CPU, by its counts.
void Sgd::updateDampened(const Bucket& bucket, const at::Tensor* found_inf) {
  Bucket first{bucket.lr, bucket.weight_decay, {}, {}, {{}, {}}, bucket.rate};
  Bucket later = first;
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    Bucket& target = bucket.slots[1][i].item<float>() == 0 ? first : later;
    target.parameters.push_back(bucket.parameters[i]);
    target.gradients.push_back(bucket.gradients[i]);
    target.slots[0].push_back(bucket.slots[0][i]);
  }
  if (!first.parameters.empty()) run(first, 0, found_inf);
  if (!later.parameters.empty()) run(later, options_.dampening, found_inf);
  at::_foreach_add_(bucket.slots[1], 1);
  takeBackSteps(bucket.slots[1], found_inf);
}

void Sgd::run(const Bucket& bucket, double dampening, const at::Tensor* found_inf) {
  const std::vector<at::Tensor> none;
  const std::vector<at::Tensor>& momenta = options_.momentum == 0 ? none : bucket.slots[0];
  if (onCpu(bucket.parameters)) {
    sgdOnCpu(bucket.parameters, bucket.gradients, momenta,
             {bucket.lr, bucket.weight_decay, options_.momentum, dampening, options_.nesterov},
             optional(&bucket.rate), optional(found_inf));
    return;
  }
  withRate(bucket.rate, bucket.lr, [&](const auto& lr) {
    at::_fused_sgd_(bucket.parameters, bucket.gradients, momenta, bucket.weight_decay, options_.momentum, lr,
                    dampening, options_.nesterov, /*maximize=*/false, /*is_first_step=*/false,
                    /*grad_scale=*/std::nullopt, optional(found_inf));
  });
}

Adam::Adam(const AdamOptions& options, std::vector<OptimizerGroup> groups)
    : ForeachOptimizer(
          std::move(groups),
          options.amsgrad ? std::vector<Slot>{{"step", true}, {"exp_avg"}, {"exp_avg_sq"}, {"max_exp_avg_sq"}}
                          : std::vector<Slot>{{"step", true}, {"exp_avg"}, {"exp_avg_sq"}}),
      options_(options) {
  requireBetas(options.beta1, options.beta2);
  requireNotNegative(options.eps, "eps");
}

bool Adam::takeMomentum(double momentum) {
  options_.beta1 = momentum;
  return true;
}

void Adam::apply(const Bucket& bucket) {
  const at::Tensor rate = rateOf(bucket);
  if (options_.decoupled) decay(bucket, rate);
  const Tensors gradients = options_.decoupled ? bucket.gradients : penalised(bucket);
  const at::Tensor steps = countSteps(bucket.slots[0]);
  const Tensors& mean = bucket.slots[1];
  const Tensors& square = bucket.slots[2];
  const Number beta1 = momentum(options_.beta1);
  updateMoments(mean, square, gradients, beta1, options_.beta2);
  if (options_.amsgrad) at::_foreach_maximum_(bucket.slots[3], square);
  Tensors denominator = at::_foreach_sqrt(options_.amsgrad ? bucket.slots[3] : square);
  at::_foreach_div_(denominator, (1 - power(Number(options_.beta2), steps)).sqrt().unbind());
  at::_foreach_add_(denominator, options_.eps);
  const at::Tensor sizes = -rate / (1 - power(beta1, steps));
  at::_foreach_addcdiv_(bucket.parameters, at::_foreach_mul(mean, sizes.unbind()), denominator, 1);
}

void Adam::update(const Bucket& bucket, const at::Tensor* found_inf) {
  if (hasMomentumOnDevice()) return ForeachOptimizer::update(bucket, found_inf);
  const std::vector<at::Tensor> none;
  const auto& steps = bucket.slots[0];
  const std::vector<at::Tensor>& largest = options_.amsgrad ? bucket.slots[3] : none;
  if (onCpu(bucket.parameters)) {
    adamOnCpu(
        bucket.parameters, bucket.gradients, bucket.slots[1], bucket.slots[2], largest, steps,
        {bucket.lr, bucket.weight_decay, options_.beta1, options_.beta2, options_.eps, options_.decoupled},
        optional(&bucket.rate), optional(found_inf));
    return;
  }
  at::_foreach_add_(steps, 1);
  const auto fused = [&](auto&& op) {
    withRate(bucket.rate, bucket.lr, [&](const auto& lr) {
      op(bucket.parameters, bucket.gradients, bucket.slots[1], bucket.slots[2], largest, steps, lr,
         options_.beta1, options_.beta2, bucket.weight_decay, options_.eps, options_.amsgrad,
         /*maximize=*/false,
         /*grad_scale=*/std::nullopt, optional(found_inf));
    });
  };
  if (options_.decoupled) {
    fused([](auto&&... arguments) { at::_fused_adamw_(arguments...); });
  } else {
    fused([](auto&&... arguments) { at::_fused_adam_(arguments...); });
  }
  takeBackSteps(steps, found_inf);
}

}  // namespace fornax
