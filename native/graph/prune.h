// Graphs cut down to what some of their outputs need: auxiliary outputs cost nothing where nobody asks for
// them, and features can be read off an inner module without running what comes after it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "graph/graph.h"

namespace fornax {

// What a run delivers.
struct Selection {
  std::vector<size_t> outputs;    // positions in graph.outputs(), ascending
  std::vector<std::string> taps;  // module paths: what each of these modules computes, as its last node

  bool operator<(const Selection& other) const {
    return std::tie(outputs, taps) < std::tie(other.outputs, other.taps);
  }
};

std::vector<size_t> allOutputs(const Graph& graph);
// Without the auxiliary ones.
std::vector<size_t> mainOutputs(const Graph& graph);
// ArgumentError for a name that is none of the graph's outputs.
std::vector<size_t> outputsNamed(const Graph& graph, const std::vector<std::string>& names);

// The main ones and what a loss graph reads; `loss` may be null.
std::vector<size_t> outputsForLoss(const Graph& graph, const Graph* loss);
// The same for several graphs over the outputs; none of them is null.
std::vector<size_t> outputsForAll(const Graph& graph, const std::vector<const Graph*>& readers);

// The graph whose outputs are the selected ones and then one for each tap, named by its path. Inputs,
// parameters and slots keep their numbers. Guards stay, with all that they depend on: a branch anywhere in
// the module may have relied on them. With every output selected all nodes stay, also those that nobody uses:
// a batch norm whose result is dropped still moves its statistics. ArgumentError for a module that computes
// nothing.
std::shared_ptr<const Graph> prune(const std::shared_ptr<const Graph>& graph, const Selection& selection);

// Prunes once for each selection. Any number of threads may ask.
class PrunedGraphs {
 public:
  std::shared_ptr<const Graph> get(const std::shared_ptr<const Graph>& graph, const Selection& selection);

 private:
  std::mutex mutex_;
  std::shared_ptr<const Graph> source_;  // of which `pruned_` are
  std::map<Selection, std::shared_ptr<const Graph>> pruned_;
};

}  // namespace fornax
