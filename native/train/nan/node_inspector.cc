#include "train/nan/node_inspector.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

namespace fornax {

namespace {

struct Count {
  int64_t nan = 0, inf = 0, elements = 0;
  bool finite() const { return nan == 0 && inf == 0; }
};

Count countIn(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_floating_point() || tensor.numel() == 0) return {};
  const c10::NoGradGuard no_grad;
  const at::Tensor values = tensor.detach();
  Count count{0, 0, values.numel()};
  // The sum tells of most tensors that all is well, for one pass over them; one that overflowed is counted.
  if (std::isfinite(values.sum(at::kDouble).item<double>())) return count;
  count.nan = at::isnan(values).sum().item<int64_t>();
  count.inf = at::isinf(values).sum().item<int64_t>();
  return count;
}

std::string readersOf(const Graph& graph, int slot) {
  std::string readers;
  const std::function<bool(const ArgumentSpec&)> reads = [&](const ArgumentSpec& argument) {
    if (argument.kind == ArgumentSpec::Kind::Slot) return argument.slot == slot;
    return std::any_of(argument.list.begin(), argument.list.end(), reads);
  };
  for (size_t i = 0; i < graph.spec().nodes.size(); ++i) {
    const NodeSpec& node = graph.spec().nodes[i];
    if (!std::any_of(node.args.begin(), node.args.end(), reads)) continue;
    readers += (readers.empty() ? "" : " or ") + graph.describe(i);
  }
  return readers;
}

}  // namespace

struct NodeInspector::State {
  // Backward runs hooks on this thread for the CPU, on another one for a GPU.
  mutable std::mutex mutex;
  std::optional<Finding> first;
  bool saw_nan = false;

  void note(Finding::Phase phase, const std::string& node, const Count& count, std::string inputs = {},
            std::string readers = {}) {
    const std::lock_guard lock(mutex);
    if (!first) {
      first = Finding{phase,     node,           std::move(readers), count.nan,
                      count.inf, count.elements, std::move(inputs),  {}};
    } else if (count.nan > 0 && !saw_nan) {
      first->then_nan = node;
    }
    saw_nan |= count.nan > 0;
  }
};

std::shared_ptr<NodeInspector::State> NodeInspector::makeState() {
  return std::make_shared<State>();
}

void NodeInspector::begin(const NamedTensors& parameters, const Graph& graph,
                          const std::vector<at::Tensor>& inputs) {
  for (const auto& [name, tensor] : parameters) {
    const Count count = countIn(tensor);
    if (!count.finite()) state_->note(Finding::Phase::Parameter, name, count);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Count count = countIn(inputs[i]);
    if (!count.finite()) state_->note(Finding::Phase::Input, graph.inputs()[i].name, count);
  }
}

void NodeInspector::given(const NamedTensors& fields) {
  for (const auto& [name, tensor] : fields) {
    const Count count = countIn(tensor);
    if (!count.finite()) state_->note(Finding::Phase::Input, name, count);
  }
}

NodeInspector::Observer NodeInspector::observe(const Graph& graph, bool is_loss) {
  return [state = state_, &graph, is_loss](size_t node, const std::vector<c10::IValue>& arguments,
                                           const std::vector<at::Tensor>& results) {
    for (size_t k = 0; k < results.size(); ++k) {
      const at::Tensor& result = results[k];
      if (!result.defined() || !result.is_floating_point()) continue;
      const Count count = countIn(result);
      if (!count.finite()) {
        std::string inputs;
        for (size_t i = 0; i < arguments.size(); ++i) {
          if (!arguments[i].isTensor() || countIn(arguments[i].toTensor()).finite()) continue;
          inputs += (inputs.empty() ? "" : ", ") + std::to_string(i + 1);
        }
        state->note(is_loss ? Finding::Phase::Loss : Finding::Phase::Forward, graph.describe(node), count,
                    std::move(inputs));
      }
      // Hooks on a parameter would stay there.
      if (!result.requires_grad() || result.is_leaf()) continue;
      const int slot = graph.nodes()[node].outs[k];
      result.register_hook([state, &graph, node, slot](const at::Tensor& gradient) {
        const Count found = countIn(gradient);
        if (!found.finite()) {
          state->note(Finding::Phase::Backward, graph.describe(node), found, {}, readersOf(graph, slot));
        }
      });
    }
  };
}

void NodeInspector::gradients(const NamedTensors& gradients) {
  for (const auto& [name, gradient] : gradients) {
    const Count count = countIn(gradient);
    if (!count.finite()) state_->note(Finding::Phase::Gradient, name, count);
  }
}

void NodeInspector::reset() {
  state_ = makeState();
}

Finding NodeInspector::finding() const {
  const std::lock_guard lock(state_->mutex);
  return state_->first.value_or(Finding{});
}

bool NodeInspector::sawNan() const {
  const std::lock_guard lock(state_->mutex);
  return state_->saw_nan;
}

}  // namespace fornax
