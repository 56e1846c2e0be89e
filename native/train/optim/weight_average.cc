#include "train/optim/weight_average.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/error.h"
#include "train/optim/average_by_share.h"

namespace fornax {

WeightAverage::WeightAverage(const SwaOptions& options, std::vector<std::pair<std::string, at::Tensor>> state)
    : options_(options), count_(at::zeros({}, at::kLong)) {
  if (options.start < 0) throw Error(ErrorKind::Argument, "swa: start must be at least 0", "swa.start");
  if (options.interval < 1)
    throw Error(ErrorKind::Argument, "swa: interval must be at least 1", "swa.interval");
  const c10::NoGradGuard no_grad;
  for (auto& [name, source] : state) {
    const at::Tensor average = source.detach().clone();
    const bool is_float = source.is_floating_point();
    (is_float ? floats_ : integers_).push_back(average);
    (is_float ? float_sources_ : integer_sources_).push_back(source.detach());
    averages_.emplace_back(std::move(name), average);
  }
}

bool WeightAverage::isTime(int64_t steps_done) const {
  const int64_t since = steps_done - options_.start;
  return since > 0 && since % options_.interval == 0;
}

void WeightAverage::takeBack(int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) {
    if (isTime(step)) --*count_.mutable_data_ptr<int64_t>();
  }
}

void WeightAverage::update(int64_t steps_done, const at::Tensor* skip) {
  if (!isTime(steps_done)) return;
  const c10::NoGradGuard no_grad;
  const int64_t n = ++*count_.mutable_data_ptr<int64_t>();
  // mean + (weights − mean) / n; with n = 1 exactly the weights.
  if (skip && n > 1) {
    averageByShare(floats_, float_sources_, skip->neg().add_(1).div_(static_cast<double>(n)));
    for (size_t i = 0; i < integers_.size(); ++i) integers_[i].copy_(integer_sources_[i]);
    return;
  }
  if (!floats_.empty()) at::_foreach_lerp_(floats_, float_sources_, 1.0 / static_cast<double>(n));
  for (size_t i = 0; i < integers_.size(); ++i) integers_[i].copy_(integer_sources_[i]);
}

const std::vector<std::pair<std::string, at::Tensor>>& WeightAverage::averages() {
  if (count_.item<int64_t>() == 0) {
    const c10::NoGradGuard no_grad;
    for (size_t i = 0; i < floats_.size(); ++i) floats_[i].copy_(float_sources_[i]);
    for (size_t i = 0; i < integers_.size(); ++i) integers_[i].copy_(integer_sources_[i]);
  }
  return averages_;
}

}  // namespace fornax
