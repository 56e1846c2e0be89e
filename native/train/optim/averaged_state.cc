#include "train/optim/averaged_state.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstddef>
#include <cstdint>

namespace fornax {

namespace {

constexpr int64_t kMostBytes = 64 << 20;  // of the differences

void copyTo(const std::vector<at::Tensor>& targets, const std::vector<at::Tensor>& sources) {
  for (size_t i = 0; i < targets.size(); ++i) targets[i].copy_(sources[i]);
}

}  // namespace

AveragedState::AveragedState(std::vector<std::pair<std::string, at::Tensor>> state) {
  const c10::NoGradGuard no_grad;
  for (auto& [name, source] : state) {
    const at::Tensor average = source.detach().clone();
    const bool is_float = source.is_floating_point();
    (is_float ? floats_ : integers_).push_back(average);
    (is_float ? float_sources_ : integer_sources_).push_back(source.detach());
    averages_.emplace_back(std::move(name), average);
  }
}

void AveragedState::moveBy(const at::Tensor& share) {
  for (size_t begin = 0; begin < floats_.size();) {
    std::vector<at::Tensor> to, from;
    int64_t bytes = 0;
    for (; begin < floats_.size() && (to.empty() || bytes < kMostBytes); ++begin) {
      to.push_back(floats_[begin]);
      from.push_back(float_sources_[begin]);
      bytes += static_cast<int64_t>(to.back().nbytes());
    }
    // There is no lerp of many tensors by one scalar on the device.
    const std::vector<at::Tensor> differences = at::_foreach_sub(from, to);
    at::_foreach_mul_(differences, share);
    at::_foreach_add_(to, differences);
  }
}

void AveragedState::copyIntegers() {
  copyTo(integers_, integer_sources_);
}

void AveragedState::copyAll() {
  copyTo(floats_, float_sources_);
  copyIntegers();
}

}  // namespace fornax
