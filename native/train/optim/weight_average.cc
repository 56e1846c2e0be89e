#include "train/optim/weight_average.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "core/error.h"

namespace fornax {

WeightAverage::WeightAverage(const SwaOptions& options, std::vector<std::pair<std::string, at::Tensor>> state)
    : options_(options), state_(std::move(state)), count_(at::zeros({}, at::kLong)) {
  if (options.start < 0) throw Error(ErrorKind::Argument, "swa: start must be at least 0", "swa.start");
  if (options.interval < 1)
    throw Error(ErrorKind::Argument, "swa: interval must be at least 1", "swa.interval");
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
  const std::vector<at::Tensor>& floats = state_.floats();
  if (skip && n > 1) {
    state_.moveBy(skip->neg().add_(1).div_(static_cast<double>(n)));
  } else if (!floats.empty()) {
    at::_foreach_lerp_(floats, state_.sources(), 1.0 / static_cast<double>(n));
  }
  state_.copyIntegers();
}

const std::vector<std::pair<std::string, at::Tensor>>& WeightAverage::averages() {
  if (count_.item<int64_t>() == 0) {
    const c10::NoGradGuard no_grad;
    state_.copyAll();
  }
  return state_.averages();
}

}  // namespace fornax
