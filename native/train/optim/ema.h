// The exponential moving average of a model's state. Lives on the session's thread and on the model's device.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "train/optim/averaged_state.h"

namespace fornax {

struct EmaOptions {
  double decay = 0.9999;
  // As timm: the decay of update n (1, 2, …) is at most 1 − (1 + n)^(−2/3).
  bool warmup = false;
};

class Ema {
 public:
  // Starts as a copy of `state`, whose tensors it follows. Throws fornax::Error (Argument) for a decay out of
  // range.
  Ema(const EmaOptions& options, std::vector<std::pair<std::string, at::Tensor>> state);

  // Counts an update of the weights and settles how much of them enters. Then update() computes with it; the
  // two are apart because a recorded step repeats only what the device does. Where `skip` (float32 scalar on
  // the device; may be null) is 1, the average stays as it is; takeBack() then takes back the count of that
  // many updates.
  void advance();
  void update(const at::Tensor* skip);
  void takeBack(int64_t updates);
  // From now on the share of a warm-up lies on the device, where a recorded update() finds it.
  void keepShareOnDevice();

  // The averages by the names of the state; the tensors themselves.
  const std::vector<std::pair<std::string, at::Tensor>>& averages() const { return state_.averages(); }
  // Updates so far, an int64 scalar on the CPU; itself.
  const at::Tensor& updates() const { return updates_; }

 private:
  EmaOptions options_;
  AveragedState state_;
  at::Tensor updates_;
  double share_ = 0;            // of the weights, in the average to come
  at::Tensor share_on_device_;  // float32 scalar, or undefined
};

}  // namespace fornax
