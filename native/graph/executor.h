// Runs a graph through libtorch's dispatcher. Stateless: everything a run needs is in its RunContext, so that
// one graph serves training, evaluation and inference, on several threads at once. Autograd, autocast,
// inference mode and thread settings are the caller's (they are thread-local state of libtorch).
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace fornax {

// Which mode each kind of node runs in: a default per kind, overridden by module-path prefix.
struct Modes {
  Mode dropout = Mode::Eval;
  Mode batch_norm = Mode::Eval;
  Mode stochastic_depth = Mode::Eval;
  struct Override {
    std::string prefix;  // a module path or a prefix of one that ends at a dot; '' matches everything
    std::optional<ModeKind> kind;
    Mode mode;
  };
  std::vector<Override> overrides;  // the longest prefix wins, the later one among equals

  static Modes all(Mode mode) { return Modes{mode, mode, mode, {}}; }
};

// Modes resolved for every node of one graph. Resolve once, use for many runs.
using ModeTable = std::vector<Mode>;
ModeTable resolveModes(const Graph& graph, const Modes& modes);

struct RunContext {
  // In the order of graph.parameters(); on the device of the run.
  const std::vector<at::Tensor>* parameters = nullptr;
  const ModeTable* modes = nullptr;  // null: everything eval
  std::optional<at::Generator> generator;
  c10::Device device = c10::kCPU;
  // Called after each node with its results (null tensors for unused ones); for shape inference and taps.
  std::function<void(size_t node, const std::vector<c10::IValue>& arguments,
                     const std::vector<at::Tensor>& results)>
      observer;
  const std::atomic<bool>* stop = nullptr;  // AbortedError between two nodes once it is true
};

// Inputs in the order of graph.inputs(); returns outputs in the order of graph.outputs().
// Throws ExecutionError (names the node and its shapes), GuardError, DeviceError (out of memory),
// AbortedError.
std::vector<at::Tensor> runGraph(const Graph& graph, std::vector<at::Tensor> inputs,
                                 const RunContext& context);

// Runs a graph of one node and returns all of its results, however many a list holds (eager calls).
std::vector<at::Tensor> runSingleNode(const Graph& graph, std::vector<at::Tensor> inputs,
                                      const RunContext& context);

}  // namespace fornax
