#include "bindings/optimizer_options.h"

#include <string>
#include <vector>

#include "core/error.h"

namespace fornax::bindings {

namespace {

// Left as they are where the option is absent.
void readBetas(const Options& source, double& beta1, double& beta2) {
  if (!source.has("betas")) return;
  const std::vector<double> betas = source.numbers("betas");
  if (betas.size() != 2) throw Error(ErrorKind::Argument, source.name("betas") + " must be two numbers");
  beta1 = betas[0];
  beta2 = betas[1];
}

SgdOptions readSgd(const Options& source) {
  SgdOptions sgd;
  sgd.momentum = source.number("momentum", sgd.momentum);
  sgd.dampening = source.number("dampening", sgd.dampening);
  sgd.nesterov = source.boolean("nesterov", sgd.nesterov);
  return sgd;
}

AdamOptions readAdam(const Options& source, bool decoupled) {
  AdamOptions adam;
  readBetas(source, adam.beta1, adam.beta2);
  adam.eps = source.number("eps", adam.eps);
  adam.amsgrad = source.boolean("amsgrad", adam.amsgrad);
  adam.decoupled = decoupled;
  return adam;
}

RmsPropOptions readRmsProp(const Options& source) {
  RmsPropOptions rmsprop;
  rmsprop.alpha = source.number("alpha", rmsprop.alpha);
  rmsprop.eps = source.number("eps", rmsprop.eps);
  rmsprop.momentum = source.number("momentum", rmsprop.momentum);
  rmsprop.centered = source.boolean("centered", rmsprop.centered);
  return rmsprop;
}

AdagradOptions readAdagrad(const Options& source) {
  AdagradOptions adagrad;
  adagrad.lr_decay = source.number("lr_decay", adagrad.lr_decay);
  adagrad.initial_accumulator = source.number("initial_accumulator_value", adagrad.initial_accumulator);
  adagrad.eps = source.number("eps", adagrad.eps);
  return adagrad;
}

RAdamOptions readRAdam(const Options& source) {
  RAdamOptions radam;
  readBetas(source, radam.beta1, radam.beta2);
  radam.eps = source.number("eps", radam.eps);
  radam.decoupled = source.boolean("decoupled_weight_decay", radam.decoupled);
  return radam;
}

NAdamOptions readNAdam(const Options& source) {
  NAdamOptions nadam;
  readBetas(source, nadam.beta1, nadam.beta2);
  nadam.eps = source.number("eps", nadam.eps);
  nadam.momentum_decay = source.number("momentum_decay", nadam.momentum_decay);
  nadam.decoupled = source.boolean("decoupled_weight_decay", nadam.decoupled);
  return nadam;
}

LionOptions readLion(const Options& source) {
  LionOptions lion;
  readBetas(source, lion.beta1, lion.beta2);
  return lion;
}

LambOptions readLamb(const Options& source) {
  LambOptions lamb;
  readBetas(source, lamb.beta1, lamb.beta2);
  lamb.eps = source.number("eps", lamb.eps);
  // null switches clipping off.
  if (source.get("max_grad_norm").IsNull())
    lamb.max_grad_norm.reset();
  else
    lamb.max_grad_norm = source.number("max_grad_norm", *lamb.max_grad_norm);
  lamb.bias_correction = source.boolean("bias_correction", lamb.bias_correction);
  lamb.grad_averaging = source.boolean("grad_averaging", lamb.grad_averaging);
  lamb.trust_clip = source.boolean("trust_clip", lamb.trust_clip);
  lamb.always_adapt = source.boolean("always_adapt", lamb.always_adapt);
  lamb.decoupled = source.boolean("decoupled_decay", lamb.decoupled);
  return lamb;
}

LarsOptions readLars(const Options& source) {
  LarsOptions lars;
  lars.momentum = source.number("momentum", lars.momentum);
  lars.nesterov = source.boolean("nesterov", lars.nesterov);
  lars.trust_coeff = source.number("trust_coeff", lars.trust_coeff);
  lars.eps = source.number("eps", lars.eps);
  lars.trust_clip = source.boolean("trust_clip", lars.trust_clip);
  lars.always_adapt = source.boolean("always_adapt", lars.always_adapt);
  return lars;
}

}  // namespace

OptimizerOptions readOptimizer(const Options& source) {
  const std::vector<std::string> names = {"sgd",   "adam",  "adamw", "rmsprop", "adagrad",
                                          "radam", "nadam", "lion",  "lamb",    "lars"};
  const std::string& name = names[source.choice("name", names, "sgd")];
  if (name == "sgd") return readSgd(source);
  if (name == "adam" || name == "adamw") return readAdam(source, name == "adamw");
  if (name == "rmsprop") return readRmsProp(source);
  if (name == "adagrad") return readAdagrad(source);
  if (name == "radam") return readRAdam(source);
  if (name == "nadam") return readNAdam(source);
  if (name == "lion") return readLion(source);
  if (name == "lamb") return readLamb(source);
  return readLars(source);
}

}  // namespace fornax::bindings
