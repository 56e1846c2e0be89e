// Precision of single nodes: the convolutions and matrix products of a plan are computed in bfloat16, all
// others in float32. Casts stand directly at the inputs of the node that needs them; everything in between
// takes values as they come. libtorch's autocast decides by operator; here each node is decided on its own,
// because on a CPU a depthwise convolution is many times slower in bfloat16 and a dense one faster
// (measure_precision.h).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace fornax {

// A node whose precision can be chosen.
struct PrecisionNode {
  size_t index;  // in graph.nodes()
  // The path of its module; `path#1`, `path#2`… for further such nodes with the same path, in their order.
  std::string name;
};

// In the order of execution. Names are those of this graph: ask before it is cut down.
std::vector<PrecisionNode> precisionNodes(const Graph& graph);

// Where a plan needs a cast.
struct PrecisionCast {
  static constexpr size_t kOutput = static_cast<size_t>(-1);
  size_t node;  // before which; kOutput: of an output of the graph
  int slot;     // of what
  bool to_bfloat16;
};

// What flows where, by operator: resolved once, asked for many plans.
class PrecisionFlow {
 public:
  explicit PrecisionFlow(const Graph& graph);

  // `bfloat16` has one entry per node of the graph; only those of precisionNodes() count. A value that two
  // nodes need is cast once.
  std::vector<PrecisionCast> casts(const std::vector<bool>& bfloat16) const;
  // For each node, whether it must be given bfloat16; unset: it takes what comes.
  std::vector<std::optional<bool>> wanted(const std::vector<bool>& bfloat16) const;

 private:
  enum class Kind : unsigned char {
    Planned,  // convolutions and matrix products: the plan says
    Follows,  // computes in the precision of what it is given
    Float32,  // everything else
    Keeps     // writes to its arguments, so that they must be the very tensors
  };
  // A value is in float32 (or no cast concerns it), in one of the two after a mixture, or in bfloat16.
  enum class Held : unsigned char { Other, Either, BFloat16 };

  struct NodeFlow {
    Kind kind;
    bool scales = false, pools = false;  // a product of two values, a mean over pixels
    std::vector<int> slots;  // tensors it reads, the statistics and weights of batch norm left out
    std::vector<int> outs;
  };

  static Kind kindOf(const Node& node, const NodeSpec& spec);
  std::vector<bool> lowered(const std::vector<bool>& bfloat16) const;

  size_t slots_;
  bool writes_ = false;  // some node changes a tensor in place: a cast is then true for one moment only
  std::vector<bool> is_parameter_;
  std::vector<NodeFlow> nodes_;
  std::vector<int> outputs_;
};

// The graph with casts for these nodes; outputs are float32 again. Names of nodes, inputs and outputs stay.
// The same graph if `names` is empty. ArgumentError for a name that is none of precisionNodes().
std::shared_ptr<const Graph> applyPrecision(const std::shared_ptr<const Graph>& graph,
                                            const std::vector<std::string>& names);

}  // namespace fornax
