// The convolutions and matrix products of a training step, as calls that can be timed: found by running the
// graph on the meta device.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "graph/graph.h"
#include "graph/shapes.h"
#include "train/passes/precision.h"
#include "train/precision/node_timer.h"

namespace fornax {

struct StepCall {
  std::optional<TimedCall> call;  // unset: no step runs this node
  double multiplications = 0;     // forward
};

struct StepCallOptions {
  const std::vector<bool>& trained;  // of each parameter of the graph
  const std::vector<InputShape>& inputs;
  bool fuse;  // operators are exchanged for a CPU (prepare_graph.h)
  const std::atomic<bool>* stop = nullptr;
};

// One per node of `nodes`, in their order. Errors as runGraph.
std::vector<StepCall> inferStepCalls(const std::shared_ptr<const Graph>& graph, const Graph& loss,
                                     const std::vector<PrecisionNode>& nodes, const StepCallOptions& options);

}  // namespace fornax
