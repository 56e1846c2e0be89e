#include "train/precision/step_calls.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "graph/executor.h"
#include "graph/meta_kernels.h"
#include "graph/prune.h"
#include "train/passes/cpu_operators.h"

namespace fornax {

namespace {

// Operators by the slots of their results.
using Operators = std::unordered_map<int, c10::OperatorHandle>;

// Those that a step calls: some are exchanged, not in every precision.
Operators operatorsOf(const Graph& planned, bool fuse) {
  GraphSpec spec = planned.spec();
  if (fuse) exchangeCpuOperators(spec, Precision::Float32);
  Operators operators;
  const Graph exchanged(std::move(spec), /*trusted=*/true);
  for (const Node& node : exchanged.nodes()) {
    if (!node.outs.empty()) operators.emplace(node.outs[0], node.op);
  }
  return operators;
}

c10::OperatorHandle operatorFor(const Operators& operators, const Node& node, size_t arguments) {
  const auto found = operators.find(node.outs[0]);
  const bool fits = found != operators.end() && found->second.schema().arguments().size() == arguments;
  return fits ? found->second : node.op;
}

// Nodes that a step runs: those that the outputs it needs depend on.
std::vector<bool> liveNodes(const std::shared_ptr<const Graph>& graph, const Graph& loss) {
  const auto pruned = prune(graph, {outputsForLoss(*graph, &loss), {}});
  std::unordered_set<int> written;
  for (const Node& node : pruned->nodes()) written.insert(node.outs.begin(), node.outs.end());
  std::vector<bool> live;
  for (const Node& node : graph->nodes()) {
    live.push_back(std::any_of(node.outs.begin(), node.outs.end(),
                               [&](int slot) { return slot >= 0 && written.count(slot) > 0; }));
  }
  return live;
}

}  // namespace

std::vector<StepCall> inferStepCalls(const std::shared_ptr<const Graph>& graph, const Graph& loss,
                                     const std::vector<PrecisionNode>& nodes,
                                     const StepCallOptions& options) {
  registerMetaKernels();
  const c10::NoGradGuard no_grad;
  std::vector<StepCall> calls(nodes.size());
  std::vector<StepCall*> wanted(graph->nodes().size(), nullptr);
  std::vector<std::string> all;
  for (size_t i = 0; i < nodes.size(); ++i) {
    wanted[nodes[i].index] = &calls[i];
    all.push_back(nodes[i].name);
  }
  const std::vector<bool> live = liveNodes(graph, loss);
  const Operators float32 = operatorsOf(*graph, options.fuse);
  const Operators bfloat16 = operatorsOf(*applyPrecision(graph, all), options.fuse);

  std::vector<bool> is_weight(graph->spec().slots, false), needs_gradient(graph->spec().slots, false);
  std::vector<at::Tensor> parameters, values;
  const auto meta = [](const std::vector<int64_t>& shape, c10::ScalarType dtype) {
    return at::empty(shape, at::TensorOptions(dtype).device(at::kMeta));
  };
  for (size_t i = 0; i < graph->parameters().size(); ++i) {
    const ParameterSpec& parameter = graph->parameters()[i];
    is_weight[parameter.slot] = true;
    needs_gradient[parameter.slot] = options.trained[i];
    parameters.push_back(meta(parameter.shape, parameter.dtype));
  }
  for (const InputShape& input : options.inputs) values.push_back(meta(input.shape, input.dtype));

  RunContext context;
  context.parameters = &parameters;
  context.device = at::kMeta;
  context.stop = options.stop;
  context.observer = [&](size_t index, const std::vector<c10::IValue>& arguments,
                         const std::vector<at::Tensor>& results) {
    const Node& node = graph->nodes()[index];
    TimedCall call{node.op, node.op, arguments, std::vector<bool>(arguments.size(), false),
                   std::vector<bool>(arguments.size(), false)};
    bool differentiable = false;
    for (const DynamicArgument& argument : node.dynamic) {
      for (int slot : argument.slots) {
        if (slot < 0) continue;
        differentiable = differentiable || needs_gradient[slot];
        call.is_weight[argument.position] = is_weight[slot];
        call.needs_gradient[argument.position] = needs_gradient[slot];
      }
    }
    for (int slot : node.outs) {
      if (slot >= 0) needs_gradient[slot] = differentiable;
    }
    if (wanted[index] == nullptr || !live[index]) return;
    wanted[index]->multiplications = multiplications(node.name, arguments, results[0]);
    call.in_float32 = operatorFor(float32, node, arguments.size());
    call.in_bfloat16 = operatorFor(bfloat16, node, arguments.size());
    wanted[index]->call = std::move(call);
  };
  runGraph(*graph, std::move(values), context);
  return calls;
}

}  // namespace fornax
