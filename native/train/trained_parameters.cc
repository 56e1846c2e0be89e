#include "train/trained_parameters.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "train/optim/gradient_clip.h"

namespace fornax {

TrainedParameters::TrainedParameters(const std::vector<GroupOptions>& groups, const State& state,
                                     std::vector<at::Tensor>& tensors) {
  const auto refuse = [](const std::string& what, const std::string& fix = "") {
    throw Error(ErrorKind::Argument, what, "groups", fix);
  };
  std::unordered_set<std::string> seen;
  for (const GroupOptions& options : groups) {
    OptimizerGroup group{{}, options.weight_decay, options.lr_scale};
    for (const std::string& name : options.parameters) {
      const int index = state.find(name);
      if (index < 0 || !state.specs()[index].trainable)
        refuse("`" + name + "` is not a parameter of the model");
      if (!seen.insert(name).second) refuse("parameter `" + name + "` is in two groups");
      if (!tensors[index].is_floating_point()) {
        refuse("parameter `" + name + "` is not of a floating-point type");
      }
      group.parameters.emplace_back(name, tensors[index]);
    }
    named_.insert(named_.end(), group.parameters.begin(), group.parameters.end());
    groups_.push_back(std::move(group));
  }
  if (named_.empty()) refuse("no parameter is to be trained", "put parameters into a group");
  for (auto& [name, parameter] : named_) parameter.set_requires_grad(true);
}

TrainedParameters::~TrainedParameters() {
  for (auto& [name, parameter] : named_) parameter.set_requires_grad(false);
}

std::vector<at::Tensor> TrainedParameters::tensors() const {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, parameter] : named_) tensors.push_back(parameter);
  return tensors;
}

int64_t TrainedParameters::bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, parameter] : named_) bytes += static_cast<int64_t>(parameter.nbytes());
  return bytes;
}

bool TrainedParameters::areFinite() const {
  const c10::NoGradGuard no_grad;
  return std::all_of(named_.begin(), named_.end(), [](const auto& named) {
    return std::isfinite(named.second.sum(at::kDouble).template item<double>());
  });
}

NamedTensors TrainedParameters::namedGradients() const {
  NamedTensors gradients;
  for (const auto& [name, parameter] : named_) {
    if (parameter.grad().defined()) gradients.emplace_back(name, parameter.grad());
  }
  return gradients;
}

std::vector<at::Tensor> TrainedParameters::definedGradients() const {
  std::vector<at::Tensor> gradients;
  gradients.reserve(named_.size());
  for (const auto& [name, parameter] : named_) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

std::vector<at::Tensor> TrainedParameters::gradients() const {
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : named_) gradients.push_back(parameter.grad());
  return gradients;
}

void TrainedParameters::setGradients(const std::vector<at::Tensor>& gradients) {
  for (size_t i = 0; i < named_.size(); ++i) named_[i].second.mutable_grad() = gradients[i];
}

void TrainedParameters::clearGradients() {
  for (auto& [name, parameter] : named_) parameter.mutable_grad().reset();
}

void TrainedParameters::rescaleGradients(double factor) {
  const c10::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = definedGradients();
  if (!gradients.empty()) at::_foreach_mul_(gradients, factor);
}

at::Tensor TrainedParameters::gradientNorm() const {
  const c10::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = definedGradients();
  return gradients.empty() ? at::Tensor() : totalNorm(gradients);
}

}  // namespace fornax
