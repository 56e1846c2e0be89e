// How long whole steps take, forward and backward without the optimizer, with plans of precision: on copies
// of the model's state and on noise, on the calling thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/shapes.h"
#include "train/options.h"

namespace fornax {

struct StepSeconds {
  double float32 = 0;
  std::vector<double> plans;  // of each, in their order
};

// What is timed. All of it must outlive the timer.
struct TimedStep {
  const std::shared_ptr<const Graph>& graph;
  const Graph& loss;
  const TrainOptions& options;
  const std::vector<at::Tensor>& state;  // the model's own: read, never written
  const std::vector<bool>& trained;      // of each of them
  const std::vector<InputShape>& inputs;
  const std::atomic<bool>& stop;
};

class StepTimer {
 public:
  explicit StepTimer(const TimedStep& timed) : timed_(timed) {}

  // With each plan, the names of its nodes in bfloat16, and with none. AbortedError once `stop` is set.
  StepSeconds time(const std::vector<std::vector<std::string>>& plans);

 private:
  double fastestStep(const Graph& graph, const std::vector<at::Tensor>& parameters,
                     const std::vector<at::Tensor>& inputs) const;
  double step(const Graph& graph, const std::vector<at::Tensor>& parameters,
              const std::vector<at::Tensor>& inputs) const;
  std::shared_ptr<const Graph> prepared(const std::vector<std::string>& names) const;
  std::vector<at::Tensor> copyParameters() const;
  std::vector<at::Tensor> makeInputs() const;

  TimedStep timed_;
};

}  // namespace fornax
