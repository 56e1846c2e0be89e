#include "train/optim/ema.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "train/optim/average_by_share.h"
#include "train/optim/cpu_update.h"

namespace fornax {

Ema::Ema(const EmaOptions& options, std::vector<std::pair<std::string, at::Tensor>> state)
    : options_(options), updates_(at::zeros({}, at::kLong)) {
  if (!(options.decay >= 0 && options.decay < 1)) {
    throw Error(ErrorKind::Argument, "ema: decay must be at least 0 and below 1", "ema.decay");
  }
  const c10::NoGradGuard no_grad;
  for (auto& [name, source] : state) {
    const at::Tensor average = source.detach().clone();
    const bool is_float = source.is_floating_point();
    (is_float ? floats_ : integers_).push_back(average);
    (is_float ? float_sources_ : integer_sources_).push_back(source.detach());
    averages_.emplace_back(std::move(name), average);
  }
}

void Ema::keepShareOnDevice() {
  if (!options_.warmup || floats_.empty()) return;  // it never changes
  share_on_device_ = at::zeros({}, floats_.front().options().dtype(at::kFloat));
}

void Ema::advance() {
  const int64_t n = *updates_.const_data_ptr<int64_t>() + 1;
  double decay = options_.decay;
  if (options_.warmup) decay = std::min(decay, 1 - std::pow(1 + static_cast<double>(n), -2.0 / 3));
  share_ = 1 - decay;
  if (share_on_device_.defined()) share_on_device_.fill_(share_);
  *updates_.mutable_data_ptr<int64_t>() = n;
}

void Ema::takeBack(int64_t updates) {
  *updates_.mutable_data_ptr<int64_t>() -= updates;
}

void Ema::update(const at::Tensor* skip) {
  const c10::NoGradGuard no_grad;
  if (skip) {
    const at::Tensor taken = skip->neg().add_(1);
    averageByShare(floats_, float_sources_,
                   share_on_device_.defined() ? taken.mul_(share_on_device_) : taken.mul_(share_));
  } else if (share_on_device_.defined()) {
    averageByShare(floats_, float_sources_, share_on_device_);
  } else if (!floats_.empty()) {
    floats_.front().is_cpu() ? averageOnCpu(floats_, float_sources_, share_)
                             : at::_foreach_lerp_(floats_, float_sources_, share_);
  }
  for (size_t i = 0; i < integers_.size(); ++i) integers_[i].copy_(integer_sources_[i]);
}

}  // namespace fornax
