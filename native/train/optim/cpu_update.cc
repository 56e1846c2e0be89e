#include "train/optim/cpu_update.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "train/kernels/flat_kernels.h"
#include "train/optim/flat_tensors.h"

namespace fornax {

namespace {

using OptionalTensor = std::optional<at::Tensor>;

// Elements of a partial sum. Fixed, so that sums do not depend on the threads.
constexpr int64_t kSumPiece = 16384;

// As an operator of libtorch that writes to them would.
void markWritten(at::TensorList tensors) {
  for (const at::Tensor& tensor : tensors) tensor.unsafeGetTensorImpl()->bump_version();
}

bool isSet(const OptionalTensor& found_inf) {
  return found_inf && found_inf->item<double>() != 0;
}

double rateOf(const OptionalTensor& rate, double lr) {
  return rate ? rate->item<double>() : lr;
}

void sgd(at::TensorList parameters, at::TensorList gradients, at::TensorList momenta,
         const OptionalTensor& rate, double number, double weight_decay, double momentum, double dampening,
         bool nesterov, const OptionalTensor& found_inf) {
  if (isSet(found_inf)) return;
  const double lr = rateOf(rate, number);
  if (!walkTogether(parameters, {gradients, momenta})) {
    at::_fused_sgd_(parameters, gradients, momenta, weight_decay, momentum, lr, dampening, nesterov,
                    /*maximize=*/false, /*is_first_step=*/false);
    return;
  }
  const auto p = pointers(parameters), m = pointers(momenta);
  const auto g = constPointers(gradients);
  const SgdRates rates{static_cast<float>(lr), static_cast<float>(weight_decay), static_cast<float>(momentum),
                       static_cast<float>(1 - dampening), nesterov};
  overElements(parameters, [&](size_t i, int64_t begin, int64_t size) {
    sgdFlat(p[i] + begin, g[i] + begin, m.empty() ? nullptr : m[i] + begin, size, rates);
  });
  markWritten(parameters);
}

// Of each parameter: those that had no gradient in some steps have counts of their own.
std::vector<AdamRates> adamRates(at::TensorList steps, const AdamUpdate& update) {
  AdamRates rates{};
  rates.keep = static_cast<float>(update.decoupled ? 1 - update.lr * update.weight_decay : 1.0);
  rates.weight_decay = static_cast<float>(update.decoupled ? 0.0 : update.weight_decay);
  rates.beta1_share = static_cast<float>(1 - update.beta1);
  rates.beta2 = static_cast<float>(update.beta2);
  rates.beta2_share = static_cast<float>(1 - update.beta2);
  rates.eps = static_cast<float>(update.eps);
  std::vector<AdamRates> of_each;
  of_each.reserve(steps.size());
  float known = 0;
  for (const at::Tensor& step : steps) {
    const float count = *step.const_data_ptr<float>();
    if (count != known) {
      known = count;
      rates.step_size = static_cast<float>(update.lr / (1 - std::pow(update.beta1, known)));
      rates.correction = static_cast<float>(1 / std::sqrt(1 - std::pow(update.beta2, known)));
    }
    of_each.push_back(rates);
  }
  return of_each;
}

void adam(at::TensorList parameters, at::TensorList gradients, at::TensorList means, at::TensorList squares,
          at::TensorList largest, at::TensorList steps, const OptionalTensor& rate, double number,
          double weight_decay, double beta1, double beta2, double eps, bool decoupled,
          const OptionalTensor& found_inf) {
  if (isSet(found_inf)) return;
  const double lr = rateOf(rate, number);
  if (!walkTogether(parameters, {gradients, means, squares, largest}) || !walkTogether(steps)) {
    at::_foreach_add_(steps, 1);
    if (decoupled) {
      at::_fused_adamw_(parameters, gradients, means, squares, largest, steps, lr, beta1, beta2, weight_decay,
                        eps, !largest.empty(), /*maximize=*/false);
    } else {
      at::_fused_adam_(parameters, gradients, means, squares, largest, steps, lr, beta1, beta2, weight_decay,
                       eps, !largest.empty(), /*maximize=*/false);
    }
    return;
  }
  for (float* step : pointers(steps)) *step += 1;
  const auto rates = adamRates(steps, {lr, weight_decay, beta1, beta2, eps, decoupled});
  const auto p = pointers(parameters), m = pointers(means), v = pointers(squares), l = pointers(largest);
  const auto g = constPointers(gradients);
  overElements(parameters, [&](size_t i, int64_t begin, int64_t size) {
    adamFlat(p[i] + begin, g[i] + begin, m[i] + begin, v[i] + begin, l.empty() ? nullptr : l[i] + begin, size,
             rates[i]);
  });
  markWritten(parameters);
}

void average(at::TensorList averages, at::TensorList sources, double share) {
  if (!walkTogether(averages, {sources})) {
    at::_foreach_lerp_(averages, sources, share);
    return;
  }
  const auto to = pointers(averages);
  const auto from = constPointers(sources);
  overElements(averages, [&](size_t i, int64_t begin, int64_t size) {
    lerpFlat(to[i] + begin, from[i] + begin, size, static_cast<float>(share));
  });
}

at::Tensor norm(at::TensorList tensors) {
  if (walkTogether(tensors)) {
    return at::scalar_tensor(std::sqrt(sumOverPieces(tensors, kSumPiece, squaresFlat)), at::kFloat);
  }
  std::vector<at::Tensor> norms = at::_foreach_norm(tensors, 2);
  for (at::Tensor& each : norms) each = each.to(at::kFloat);
  return at::linalg_vector_norm(at::stack(norms));
}

void scale(at::TensorList tensors, const at::Tensor& factor) {
  if (!walkTogether(tensors)) {
    at::_foreach_mul_(tensors, factor);
    return;
  }
  const float number = factor.item<float>();
  if (number == 1) return;
  const auto x = pointers(tensors);
  overElements(tensors,
               [&](size_t i, int64_t begin, int64_t size) { scaleFlat(x[i] + begin, size, number); });
}

template <typename Signature>
auto find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def(
      "sgd_(Tensor(a!)[] parameters, Tensor[] gradients, Tensor(b!)[] momenta, Tensor? rate, float lr, "
      "float weight_decay, float momentum, float dampening, bool nesterov, Tensor? found_inf) -> ()");
  library.def(
      "adam_(Tensor(a!)[] parameters, Tensor[] gradients, Tensor(b!)[] means, Tensor(c!)[] squares, "
      "Tensor(d!)[] largest, Tensor(e!)[] steps, Tensor? rate, float lr, float weight_decay, float beta1, "
      "float beta2, float eps, bool decoupled, Tensor? found_inf) -> ()");
  library.def("average_(Tensor(a!)[] averages, Tensor[] sources, float share) -> ()");
  library.def("total_norm(Tensor[] tensors) -> Tensor");
  library.def("scale_(Tensor(a!)[] tensors, Tensor factor) -> ()");
}

TORCH_LIBRARY_IMPL(fornax, CPU, library) {
  library.impl("sgd_", sgd);
  library.impl("adam_", adam);
  library.impl("average_", average);
  library.impl("total_norm", norm);
  library.impl("scale_", scale);
}

void sgdOnCpu(at::TensorList parameters, at::TensorList gradients, at::TensorList momenta,
              const SgdUpdate& update, const OptionalTensor& rate, const OptionalTensor& found_inf) {
  static const auto op = find<decltype(sgd)>("fornax::sgd_");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  op.call(parameters, gradients, momenta, rate, update.lr, update.weight_decay, update.momentum,
          update.dampening, update.nesterov, found_inf);
}

void adamOnCpu(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
               at::TensorList squares, at::TensorList largest, at::TensorList steps, const AdamUpdate& update,
               const OptionalTensor& rate, const OptionalTensor& found_inf) {
  static const auto op = find<decltype(adam)>("fornax::adam_");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  op.call(parameters, gradients, means, squares, largest, steps, rate, update.lr, update.weight_decay,
          update.beta1, update.beta2, update.eps, update.decoupled, found_inf);
}

void averageOnCpu(at::TensorList averages, at::TensorList sources, double share) {
  static const auto op = find<decltype(average)>("fornax::average_");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  op.call(averages, sources, share);
}

at::Tensor normOnCpu(at::TensorList tensors) {
  static const auto op = find<decltype(norm)>("fornax::total_norm");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return op.call(tensors);
}

void scaleOnCpu(at::TensorList tensors, const at::Tensor& factor) {
  static const auto op = find<decltype(scale)>("fornax::scale_");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  op.call(tensors, factor);
}

}  // namespace fornax
