// Finds the first node of a forward and a backward whose numbers are not finite: looks at what goes into the
// model, at the results of every node of model and loss, and at the gradient of each of these as it comes
// back. Reads every tensor, and so waits for the device: for steps that went wrong, and for a mode that looks
// for anomalies. Used on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/executor.h"
#include "graph/graph.h"
#include "train/optim/optimizer.h"

namespace fornax {

// Where numbers cease to be finite.
struct Finding {
  enum class Phase : uint8_t { None, Parameter, Input, Forward, Loss, Backward, Gradient };
  Phase phase = Phase::None;
  std::string node;          // as Graph::describe() has it; of a parameter, an input or a gradient its name
  std::string readers;       // Backward: the nodes whose backward made the gradient
  int64_t nan = 0, inf = 0;  // elements
  int64_t elements = 0;
  std::string inputs;    // Forward, Loss: which of the node's inputs are not finite; empty: all are
  std::string then_nan;  // of infinity: where the first NaN came of it; may be empty
};

class NodeInspector {
 public:
  // Before each micro-batch. `parameters` by name. Looks at these and at what the model is given.
  void begin(const NamedTensors& parameters, const Graph& graph, const std::vector<at::Tensor>& inputs);

  // Fields of the batch that the loss reads.
  void given(const NamedTensors& fields);

  using Observer =
      std::function<void(size_t, const std::vector<c10::IValue>&, const std::vector<at::Tensor>&)>;
  // For runGraph(). `graph` must outlive the backward.
  Observer observe(const Graph& graph, bool is_loss);

  // After backward: gradients by the names of their parameters.
  void gradients(const NamedTensors& gradients);

  // Forgets what was found.
  void reset();
  // The first one, in the order of computation.
  Finding finding() const;
  // Whether a NaN was seen: infinity alone may be meant (what attention shall not look at).
  bool sawNan() const;

 private:
  struct State;
  std::shared_ptr<State> state_ = makeState();
  static std::shared_ptr<State> makeState();
};

}  // namespace fornax
