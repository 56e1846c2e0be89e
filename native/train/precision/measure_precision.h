// Finds out which convolutions and matrix products of a model a CPU trains faster in bfloat16: each is timed
// in both precisions for the shapes it will have, the best plan is chosen with what its casts cost, and whole
// steps tell whether it really gains. Works on copies with a generator of its own: the model and every stream
// of random numbers stay as they are.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/shapes.h"
#include "graph/state.h"
#include "train/options.h"

namespace fornax {

struct MeasureRequest {
  // One per input of the graph, with the batch that a step will have.
  std::vector<InputShape> inputs;
  // Optimizer steps to come: a measurement that takes longer than it can gain is left out. Unset: never.
  std::optional<int64_t> steps;
};

struct PrecisionVerdict {
  enum class Reason : uint8_t {
    Measured,     // the plan is faster
    NoGain,       // measured: float32 throughout is as fast
    TooSmall,     // not measured: there is too little to gain
    Unsupported,  // not measured: the processor has no arithmetic in bfloat16
  };
  std::vector<std::string> bf16;  // names of nodes (passes/precision.h)
  int64_t nodes = 0;              // how many there are to choose from
  Reason reason = Reason::TooSmall;
  int64_t batch = 0;  // of the measurement
  // Of all those nodes, forward and backward, and of whole steps without the optimizer.
  double nodes_float32 = 0, nodes_plan = 0, step_float32 = 0, step_plan = 0;
  double seconds = 0;  // of the measurement
  // Of these the measuring thread had a processor for: near 1 on a quiet machine.
  double processor_share = 1;
};

// On a thread of its own, with the threads and the floating-point mode of the options; waits for it.
// `stop` interrupts it (AbortedError). Throws what running the graph throws.
PrecisionVerdict measurePrecision(const std::shared_ptr<const Graph>& graph, const State& state,
                                  const Graph& loss, const TrainOptions& options,
                                  const MeasureRequest& request, const std::atomic<bool>& stop);

}  // namespace fornax
