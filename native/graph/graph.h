// A validated graph: every operator resolved, every argument checked against the operator's schema and
// converted once. Immutable, so that any number of threads may run it at the same time (see executor.h).
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/spec.h"

namespace fornax {

// What has to be put into a node's stack when it runs; everything else is in `stack` already.
struct DynamicArgument {
  enum class Kind : uint8_t {
    Slot,          // one tensor
    SlotList,      // Tensor[]
    OptionalList,  // Tensor?[]
    Expr,          // int
    IntList,       // int[] with expressions inside
    ModeInt,       // the node's mode as an int
    ModeBool,      // mode == train
    Generator,     // the session's generator
    Device         // an optional device left open: the session's
  };
  Kind kind;
  int position;                                        // index in the stack
  std::vector<int> slots;                              // Slot, SlotList, OptionalList (-1: absent)
  std::vector<bool> last_use;                          // of each slot: may be moved out
  std::vector<std::shared_ptr<const SizeExpr>> exprs;  // Expr, IntList
};

struct Node {
  c10::OperatorHandle op;
  std::string name;  // operator with overload
  std::string path;
  std::vector<c10::IValue> stack;  // constants, with empty places for dynamic arguments
  std::vector<DynamicArgument> dynamic;
  std::vector<int> outs;
  bool returns_list = false;  // one Tensor[] result, unpacked into outs
  std::vector<int> release;   // slots not needed after this node
  std::vector<int> guards;    // guards that can be checked after this node
  bool modal = false;
  ModeKind mode_kind = ModeKind::Dropout;
};

// Appends the slots whose sizes an expression reads.
void collectSlots(const std::shared_ptr<const SizeExpr>& expr, std::vector<int>& slots);

class Graph {
 public:
  // Throws GraphError naming the node. `trusted` false: operators outside the allow-list are refused.
  Graph(GraphSpec spec, bool trusted);

  const GraphSpec& spec() const { return spec_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<PortSpec>& inputs() const { return spec_.inputs; }
  const std::vector<PortSpec>& outputs() const { return spec_.outputs; }
  const std::vector<ParameterSpec>& parameters() const { return spec_.parameters; }
  // Guards that depend on inputs and parameters alone.
  const std::vector<int>& initialGuards() const { return initial_guards_; }
  // Index of the last node made by the module at `path` or by one inside it: what the module computes. -1:
  // none.
  int lastNodeOf(const std::string& path) const;
  // "aten::conv2d at layer1.0.conv1 (node 12)"
  std::string describe(size_t node) const;

 private:
  GraphSpec spec_;
  std::vector<Node> nodes_;
  std::vector<int> initial_guards_;
};

}  // namespace fornax
