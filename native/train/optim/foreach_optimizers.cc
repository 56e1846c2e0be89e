#include "train/optim/foreach_optimizers.h"

#include <ATen/ATen.h>

#include <utility>

#include "train/optim/optimizer_checks.h"

namespace fornax {

namespace {

using Tensors = std::vector<at::Tensor>;

constexpr int64_t kMostKept = 32 << 20;  // bytes of parameters

}  // namespace

void ForeachOptimizer::update(const Bucket& bucket, const at::Tensor* found_inf) {
  if (!found_inf) {
    apply(bucket);
    return;
  }
  // What may have to be put back is kept: of some parameters at a time, so that it is little beside the
  // model.
  Bucket part{bucket.lr, bucket.weight_decay, {}, {}, std::vector<Tensors>(bucket.slots.size()), bucket.rate};
  int64_t bytes = 0;
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    part.parameters.push_back(bucket.parameters[i]);
    part.gradients.push_back(bucket.gradients[i]);
    for (size_t slot = 0; slot < bucket.slots.size(); ++slot) {
      part.slots[slot].push_back(bucket.slots[slot][i]);
    }
    bytes += static_cast<int64_t>(bucket.parameters[i].nbytes());
    if (bytes < kMostKept && i + 1 < bucket.parameters.size()) continue;
    applyUnless(part, found_inf->ne(0));
    part.parameters.clear();
    part.gradients.clear();
    for (Tensors& slot : part.slots) slot.clear();
    bytes = 0;
  }
}

void ForeachOptimizer::applyUnless(const Bucket& bucket, const at::Tensor& skipped) {
  Tensors changed = bucket.parameters;
  for (const Tensors& slot : bucket.slots) changed.insert(changed.end(), slot.begin(), slot.end());
  Tensors before;
  before.reserve(changed.size());
  for (const at::Tensor& tensor : changed) before.push_back(at::empty_like(tensor));
  at::_foreach_copy_(before, changed);
  apply(bucket);
  for (size_t i = 0; i < changed.size(); ++i) at::where_out(changed[i], skipped, before[i], changed[i]);
}

at::Tensor ForeachOptimizer::countSteps(const Tensors& steps) {
  at::_foreach_add_(steps, 1);
  return at::stack(steps).to(at::kDouble);
}

std::vector<at::Tensor> ForeachOptimizer::penalised(const Bucket& bucket) {
  if (bucket.weight_decay == 0) return bucket.gradients;
  return at::_foreach_add(bucket.gradients, bucket.parameters, bucket.weight_decay);
}

void ForeachOptimizer::updateMoments(const Tensors& mean, const Tensors& square, const Tensors& gradients,
                                     const Number& beta1, double beta2) {
  averageIn(mean, gradients, beta1);
  at::_foreach_mul_(square, beta2);
  at::_foreach_addcmul_(square, gradients, gradients, 1 - beta2);
}

at::Tensor ForeachOptimizer::power(const Number& base, const at::Tensor& exponents) {
  return base.isOnDevice() ? at::pow(base.tensor(exponents), exponents)
                           : at::pow(at::Scalar(base.value()), exponents);
}

at::Tensor ForeachOptimizer::rateOf(const Bucket& bucket) {
  if (bucket.rate.defined()) return bucket.rate.to(at::kDouble);
  return Number(bucket.lr).tensor(bucket.parameters.front());
}

Number ForeachOptimizer::descent(const Bucket& bucket) {
  return bucket.rate.defined() ? Number(-rateOf(bucket)) : Number(-bucket.lr);
}

void ForeachOptimizer::decay(const Bucket& bucket, const at::Tensor& rate) {
  if (bucket.weight_decay == 0) return;
  scaleBy(bucket.parameters, Number(1 - rate * bucket.weight_decay));
}

RmsProp::RmsProp(const RmsPropOptions& options, std::vector<OptimizerGroup> groups)
    : ForeachOptimizer(std::move(groups),
                       [&] {
                         std::vector<Slot> slots{{"square_avg"}};
                         if (options.momentum > 0) slots.push_back({"momentum_buffer"});
                         if (options.centered) slots.push_back({"grad_avg"});
                         return slots;
                       }()),
      options_(options) {
  requireShare(options.alpha, "alpha");
  requireNotNegative(options.eps, "eps");
  requireNotNegative(options.momentum, "momentum");
}

void RmsProp::apply(const Bucket& bucket) {
  const Tensors gradients = penalised(bucket);
  const Tensors& square = bucket.slots[0];
  at::_foreach_mul_(square, options_.alpha);
  at::_foreach_addcmul_(square, gradients, gradients, 1 - options_.alpha);
  Tensors denominator;
  if (options_.centered) {
    const Tensors& mean = bucket.slots.back();
    at::_foreach_lerp_(mean, gradients, 1 - options_.alpha);
    denominator = at::_foreach_addcmul(square, mean, mean, -1);
    at::_foreach_sqrt_(denominator);
  } else {
    denominator = at::_foreach_sqrt(square);
  }
  at::_foreach_add_(denominator, options_.eps);
  if (options_.momentum > 0) {
    const Tensors& buffer = bucket.slots[1];
    scaleBy(buffer, momentum(options_.momentum));
    at::_foreach_addcdiv_(buffer, gradients, denominator, 1);
    addScaled(bucket.parameters, buffer, -rateOf(bucket));
  } else {
    addQuotients(bucket.parameters, gradients, denominator, descent(bucket));
  }
}

Adagrad::Adagrad(const AdagradOptions& options, std::vector<OptimizerGroup> groups)
    : ForeachOptimizer(std::move(groups), {{"step", true}, {"sum", false, options.initial_accumulator}}),
      options_(options) {
  requireNotNegative(options.lr_decay, "lr_decay");
  requireNotNegative(options.initial_accumulator, "initial_accumulator_value");
  requireNotNegative(options.eps, "eps");
}

void Adagrad::apply(const Bucket& bucket) {
  const Tensors gradients = penalised(bucket);
  const Tensors& sum = bucket.slots[1];
  const at::Tensor steps = countSteps(bucket.slots[0]);
  at::_foreach_addcmul_(sum, gradients, gradients, 1);
  const Tensors denominator = at::_foreach_sqrt(sum);
  at::_foreach_add_(denominator, options_.eps);
  if (options_.lr_decay == 0) {
    addQuotients(bucket.parameters, gradients, denominator, descent(bucket));
    return;
  }
  const at::Tensor rate = rateOf(bucket);
  const Tensors rates = ((steps - 1) * options_.lr_decay + 1).reciprocal().mul(-rate).unbind();
  at::_foreach_addcdiv_(bucket.parameters, at::_foreach_mul(gradients, rates), denominator, 1);
}

RAdam::RAdam(const RAdamOptions& options, std::vector<OptimizerGroup> groups)
    : BetaOptimizer(options, std::move(groups), {{"step", true}, {"exp_avg"}, {"exp_avg_sq"}}) {
  requireNotNegative(options.eps, "eps");
}

void RAdam::apply(const Bucket& bucket) {
  const auto& [host_beta1, beta2, eps, decoupled] = options_;
  const Number beta1 = momentum(host_beta1);
  const at::Tensor lr = rateOf(bucket);
  if (decoupled) decay(bucket, lr);
  const Tensors gradients = decoupled ? bucket.gradients : penalised(bucket);
  const at::Tensor steps = countSteps(bucket.slots[0]);
  const Tensors& mean = bucket.slots[1];
  const Tensors& square = bucket.slots[2];
  updateMoments(mean, square, gradients, beta1, beta2);

  // The length of the approximated moving average decides whether the step is rectified (above 5).
  const double longest = 2 / (1 - beta2) - 1;
  const at::Tensor rest = power(Number(beta2), steps);
  const at::Tensor length = longest - 2 * steps * rest / (1 - rest);
  const at::Tensor rectification =
      ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)).sqrt();
  const at::Tensor rate = lr / (1 - power(beta1, steps));
  const at::Tensor none = at::zeros_like(rate);
  const at::Tensor long_enough = length.gt(5);
  const at::Tensor adaptive = at::where(long_enough, (1 - rest).sqrt() * rectification * rate, none);
  const at::Tensor plain = at::where(long_enough, none, rate);

  Tensors factors = at::_foreach_sqrt(square);
  at::_foreach_add_(factors, eps);
  at::_foreach_reciprocal_(factors);
  at::_foreach_mul_(factors, adaptive.unbind());
  at::_foreach_add_(factors, plain.unbind());
  at::_foreach_addcmul_(bucket.parameters, mean, factors, -1);
}

NAdam::NAdam(const NAdamOptions& options, std::vector<OptimizerGroup> groups)
    : BetaOptimizer(options, std::move(groups),
                    {{"step", true}, {"mu_product", true, 1}, {"exp_avg"}, {"exp_avg_sq"}}) {
  requireNotNegative(options.eps, "eps");
  requireNotNegative(options.momentum_decay, "momentum_decay");
}

void NAdam::apply(const Bucket& bucket) {
  const auto& [host_beta1, beta2, eps, momentum_decay, decoupled] = options_;
  const Number beta1 = momentum(host_beta1);
  const at::Tensor lr = rateOf(bucket);
  if (decoupled) decay(bucket, lr);
  const Tensors gradients = decoupled ? bucket.gradients : penalised(bucket);
  const at::Tensor steps = countSteps(bucket.slots[0]);
  const Tensors& mean = bucket.slots[2];
  const Tensors& square = bucket.slots[3];
  updateMoments(mean, square, gradients, beta1, beta2);

  const auto momentumAt = [beta = beta1.tensor(steps), decay = momentum_decay](const at::Tensor& step) {
    return beta * (1 - 0.5 * power(Number(0.96), step * decay));
  };
  const at::Tensor now = momentumAt(steps);
  const at::Tensor next = momentumAt(steps + 1);
  at::_foreach_mul_(bucket.slots[1], now.unbind());
  const at::Tensor product = at::stack(bucket.slots[1]).to(at::kDouble);

  Tensors denominator = at::_foreach_sqrt(square);
  at::_foreach_div_(denominator, (1 - power(Number(beta2), steps)).sqrt().unbind());
  at::_foreach_add_(denominator, eps);
  const at::Tensor of_gradient = -lr * (1 - now) / (1 - product);
  const at::Tensor of_mean = -lr * next / (1 - product * next);
  Tensors numerator = at::_foreach_mul(gradients, of_gradient.unbind());
  at::_foreach_add_(numerator, at::_foreach_mul(mean, of_mean.unbind()));
  at::_foreach_addcdiv_(bucket.parameters, numerator, denominator, 1);
}

Lion::Lion(const LionOptions& options, std::vector<OptimizerGroup> groups)
    : BetaOptimizer(options, std::move(groups), {{"exp_avg"}}) {}

void Lion::apply(const Bucket& bucket) {
  const Tensors& mean = bucket.slots[0];
  const at::Tensor rate = rateOf(bucket);
  decay(bucket, rate);
  const Tensors directions = averaged(mean, bucket.gradients, momentum(options_.beta1));
  at::_foreach_sign_(directions);
  addScaled(bucket.parameters, directions, -rate);
  at::_foreach_lerp_(mean, bucket.gradients, 1 - options_.beta2);
}

}  // namespace fornax
