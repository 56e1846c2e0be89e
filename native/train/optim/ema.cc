#include "train/optim/ema.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "train/optim/cpu_update.h"

namespace fornax {

Ema::Ema(const EmaOptions& options, std::vector<std::pair<std::string, at::Tensor>> state)
    : options_(options), state_(std::move(state)), updates_(at::zeros({}, at::kLong)) {
  if (!(options.decay >= 0 && options.decay < 1)) {
    throw Error(ErrorKind::Argument, "ema: decay must be at least 0 and below 1", "ema.decay");
  }
}

void Ema::keepShareOnDevice() {
  if (!options_.warmup || state_.floats().empty()) return;  // it never changes
  share_on_device_ = at::zeros({}, state_.floats().front().options().dtype(at::kFloat));
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
  const std::vector<at::Tensor>& floats = state_.floats();
  if (skip) {
    const at::Tensor taken = skip->neg().add_(1);
    state_.moveBy(share_on_device_.defined() ? taken.mul_(share_on_device_) : taken.mul_(share_));
  } else if (share_on_device_.defined()) {
    state_.moveBy(share_on_device_);
  } else if (!floats.empty()) {
    floats.front().is_cpu() ? averageOnCpu(floats, state_.sources(), share_)
                            : at::_foreach_lerp_(floats, state_.sources(), share_);
  }
  state_.copyIntegers();
}

}  // namespace fornax
