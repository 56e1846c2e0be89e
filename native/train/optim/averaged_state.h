// The state of a model and an average of it: of every floating entry, batch-norm statistics included;
// integers are copied. Used on the session's thread; the tensors are on the model's device. Gradient
// recording must be off.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace fornax {

class AveragedState {
 public:
  // Begins as a copy of `state`, whose tensors it follows.
  explicit AveragedState(std::vector<std::pair<std::string, at::Tensor>> state);

  // By the names of the state; the tensors themselves.
  const std::vector<std::pair<std::string, at::Tensor>>& averages() const { return averages_; }
  // The floating averages, and in the same order what they follow.
  const std::vector<at::Tensor>& floats() const { return floats_; }
  const std::vector<at::Tensor>& sources() const { return float_sources_; }

  // floats ← floats + share·(sources − floats), with `share` a scalar on the device; where it is 0, averages
  // of finite numbers stay as they are to the bit, if their sources are finite as well. Needs memory for
  // differences: of some tensors at a time.
  void moveBy(const at::Tensor& share);
  void copyIntegers();
  // Everything as it is in the state.
  void copyAll();

 private:
  std::vector<std::pair<std::string, at::Tensor>> averages_;
  std::vector<at::Tensor> floats_, float_sources_, integers_, integer_sources_;
};

}  // namespace fornax
