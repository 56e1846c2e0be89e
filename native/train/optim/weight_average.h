// Stochastic weight averaging (Izmailov et al. 2018; torch.optim.swa_utils.AveragedModel with use_buffers):
// the plain mean of a model's state at chosen steps. Lives on the session's thread and on the model's device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "train/optim/averaged_state.h"

namespace fornax {

struct SwaOptions {
  int64_t start = 0;     // optimizer steps done when the first interval begins
  int64_t interval = 1;  // steps
};

class WeightAverage {
 public:
  // `state` are the tensors it follows. Throws fornax::Error (Argument) for options out of range.
  WeightAverage(const SwaOptions& options, std::vector<std::pair<std::string, at::Tensor>> state);

  // After the update of a step: takes the weights into the mean if an interval has ended.
  // Where `skip` (float32 scalar on the device; may be null) is 1, the mean stays as it is; takeBack() then
  // takes back the count of the steps from `first` to `last`, counted from 1.
  void update(int64_t steps_done, const at::Tensor* skip = nullptr);
  void takeBack(int64_t first, int64_t last);

  // The means by the names of the state, the tensors themselves; until the first interval has ended, the
  // weights as they are now.
  const std::vector<std::pair<std::string, at::Tensor>>& averages();
  // Weights in the mean so far, an int64 scalar on the CPU; itself.
  const at::Tensor& count() const { return count_; }

 private:
  bool isTime(int64_t steps_done) const;

  SwaOptions options_;
  AveragedState state_;
  at::Tensor count_;
};

}  // namespace fornax
