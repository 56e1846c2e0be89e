#include "graph/prune.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace fornax {

namespace {

// Sets of taps a session remembers before it starts anew.
constexpr size_t kMaxRemembered = 32;

// Slots that a node reads, of tensors and of sizes.
std::vector<int> slotsReadBy(const Node& node) {
  std::vector<int> slots;
  for (const DynamicArgument& argument : node.dynamic) {
    for (int slot : argument.slots) {
      if (slot >= 0) slots.push_back(slot);
    }
    for (const auto& expr : argument.exprs) collectSlots(expr, slots);
  }
  return slots;
}

// Nodes are in execution order, so one pass from the end finds all that `needed` slots depend on.
std::vector<bool> liveNodes(const Graph& graph, std::vector<bool> needed) {
  const std::vector<Node>& nodes = graph.nodes();
  std::vector<bool> live(nodes.size(), false);
  for (size_t i = nodes.size(); i-- > 0;) {
    const std::vector<int>& outs = nodes[i].outs;
    live[i] = std::any_of(outs.begin(), outs.end(), [&](int slot) { return slot >= 0 && needed[slot]; });
    if (!live[i]) continue;
    for (int slot : slotsReadBy(nodes[i])) needed[slot] = true;
  }
  return live;
}

PortSpec tapPort(const Graph& graph, const std::string& path) {
  const int node = graph.lastNodeOf(path);
  if (node >= 0) {
    for (int slot : graph.nodes()[node].outs) {
      if (slot >= 0) return PortSpec{path, slot, -1, false};
    }
  }
  throw Error(ErrorKind::Argument, "the model has no module '" + path + "' that computes anything", "",
              "see model.summary() for the module paths");
}

std::string outputNames(const Graph& graph) {
  std::string names;
  for (const PortSpec& port : graph.outputs()) names += (names.empty() ? "" : ", ") + port.name;
  return names;
}

}  // namespace

std::vector<size_t> allOutputs(const Graph& graph) {
  std::vector<size_t> outputs(graph.outputs().size());
  std::iota(outputs.begin(), outputs.end(), size_t{0});
  return outputs;
}

std::vector<size_t> mainOutputs(const Graph& graph) {
  std::vector<size_t> outputs = allOutputs(graph);
  auto auxiliary = [&](size_t i) { return graph.outputs()[i].auxiliary; };
  outputs.erase(std::remove_if(outputs.begin(), outputs.end(), auxiliary), outputs.end());
  return outputs;
}

std::vector<size_t> outputsNamed(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<bool> chosen(graph.outputs().size(), false);
  for (const std::string& name : names) {
    bool found = false;
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (graph.outputs()[i].name == name) found = chosen[i] = true;
    }
    if (!found) {
      throw Error(ErrorKind::Argument, "the model has no output '" + name + "'", "outputs",
                  "it has: " + outputNames(graph));
    }
  }
  std::vector<size_t> outputs;
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i]) outputs.push_back(i);
  }
  return outputs;
}

std::vector<size_t> outputsForLoss(const Graph& graph, const Graph* loss) {
  return outputsForAll(graph, loss ? std::vector{loss} : std::vector<const Graph*>{});
}

std::vector<size_t> outputsForAll(const Graph& graph, const std::vector<const Graph*>& readers) {
  std::vector<size_t> outputs;
  for (size_t i = 0; i < graph.outputs().size(); ++i) {
    const PortSpec& port = graph.outputs()[i];
    bool read = !port.auxiliary;
    for (const Graph* reader : readers) {
      for (const PortSpec& input : reader->inputs()) read = read || input.name == port.name;
    }
    if (read) outputs.push_back(i);
  }
  return outputs;
}

std::shared_ptr<const Graph> prune(const std::shared_ptr<const Graph>& graph, const Selection& selection) {
  const bool everything = selection.outputs.size() == graph->outputs().size();
  if (everything && selection.taps.empty()) return graph;
  GraphSpec spec = graph->spec();
  for (ParameterSpec& parameter : spec.parameters) parameter.init = {};  // tables may be large
  spec.outputs.clear();
  for (size_t output : selection.outputs) {
    spec.outputs.push_back(graph->outputs()[output]);
    spec.outputs.back().auxiliary = false;  // it was asked for
  }
  for (const std::string& path : selection.taps) spec.outputs.push_back(tapPort(*graph, path));
  if (spec.outputs.empty()) {
    throw Error(ErrorKind::Argument, "a run needs at least one output or tap", "outputs",
                "the outputs are: " + outputNames(*graph));
  }
  if (!everything) {
    std::vector<int> roots;
    for (const PortSpec& port : spec.outputs) roots.push_back(port.slot);
    for (const GuardSpec& guard : spec.guards) {
      collectSlots(guard.left, roots);
      collectSlots(guard.right, roots);
    }
    std::vector<bool> needed(spec.slots, false);
    for (int slot : roots) needed[slot] = true;
    const std::vector<bool> live = liveNodes(*graph, std::move(needed));
    std::vector<NodeSpec> nodes;
    for (size_t i = 0; i < live.size(); ++i) {
      if (live[i]) nodes.push_back(std::move(spec.nodes[i]));
    }
    spec.nodes = std::move(nodes);
  }
  // The graph it is part of has been checked.
  return std::make_shared<const Graph>(std::move(spec), /*trusted=*/true);
}

std::shared_ptr<const Graph> PrunedGraphs::get(const std::shared_ptr<const Graph>& graph,
                                               const Selection& selection) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (source_ != graph || pruned_.size() >= kMaxRemembered) {
    pruned_.clear();
    source_ = graph;
  }
  std::shared_ptr<const Graph>& pruned = pruned_[selection];
  if (!pruned) {
    try {
      pruned = prune(graph, selection);
    } catch (...) {
      pruned_.erase(selection);
      throw;
    }
  }
  return pruned;
}

}  // namespace fornax
