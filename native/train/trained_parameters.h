// The parameters that a step trains, and their gradients: selected by the parameter groups, marked for
// autograd as long as this lives. Nothing here waits for the device unless it says so.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "graph/state.h"
#include "train/optim/optimizer.h"
#include "train/options.h"

namespace fornax {

class TrainedParameters {
 public:
  // `tensors`: all of the state, in its order. ArgumentError where a group names what is no parameter, or
  // names it twice, and if nothing is trained.
  TrainedParameters(const std::vector<GroupOptions>& groups, const State& state,
                    std::vector<at::Tensor>& tensors);
  ~TrainedParameters();
  TrainedParameters(const TrainedParameters&) = delete;
  TrainedParameters& operator=(const TrainedParameters&) = delete;

  const std::vector<OptimizerGroup>& groups() const { return groups_; }
  // By name, in the order of the groups.
  const NamedTensors& named() const { return named_; }
  std::vector<at::Tensor> tensors() const;
  int64_t bytes() const;
  // Waits for the device.
  bool areFinite() const;

  // Of those that have one.
  NamedTensors namedGradients() const;
  std::vector<at::Tensor> definedGradients() const;
  // Of all in their order; undefined ones mean none.
  std::vector<at::Tensor> gradients() const;
  void setGradients(const std::vector<at::Tensor>& gradients);
  void clearGradients();
  void rescaleGradients(double factor);
  // Over all of them, a scalar on the device; undefined if there is none.
  at::Tensor gradientNorm() const;

 private:
  std::vector<OptimizerGroup> groups_;
  NamedTensors named_;
};

}  // namespace fornax
