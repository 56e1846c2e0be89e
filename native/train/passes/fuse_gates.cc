#include "train/passes/fuse_gates.h"

#include <cstddef>
#include <utility>

#include "train/kernels/gate.h"
#include "train/passes/cpu_operators.h"
#include "train/passes/slot_uses.h"

namespace fornax {

namespace {

using Kind = ArgumentSpec::Kind;

bool isSlot(const NodeSpec& node, size_t position) {
  return position < node.args.size() && node.args[position].kind == Kind::Slot;
}

// Of a sigmoid, or of one that was cast.
bool isGate(const GraphSpec& spec, const SlotUses& uses, int slot) {
  int writer = uses.writer[slot];
  if (writer >= 0 && spec.nodes[writer].op == "aten::to.dtype" && isSlot(spec.nodes[writer], 0)) {
    writer = uses.writer[spec.nodes[writer].args[0].slot];
  }
  if (writer < 0) return false;
  const std::string& op = spec.nodes[writer].op;
  return op == "aten::sigmoid" || op == "aten::hardsigmoid";
}

// The node before `end` that takes the means of the slot; null if there is none.
NodeSpec* poolOf(GraphSpec& spec, const SlotUses& uses, int slot, int end) {
  for (int reader : uses.readers[slot]) {
    if (reader < end && poolsToOnePixel(spec.nodes[reader])) return &spec.nodes[reader];
  }
  return nullptr;
}

}  // namespace

bool fuseGates(GraphSpec& spec) {
  const SlotUses uses(spec);
  bool changed = false;
  for (size_t i = 0; i < spec.nodes.size(); ++i) {
    NodeSpec& node = spec.nodes[i];
    if (node.op != "aten::mul.Tensor" || node.args.size() != 2 || !isSlot(node, 0) || !isSlot(node, 1)) {
      continue;
    }
    const bool first = isGate(spec, uses, node.args[0].slot), second = isGate(spec, uses, node.args[1].slot);
    if (first == second) continue;
    if (second) std::swap(node.args[0], node.args[1]);
    node.op = kGate;
    changed = true;
    NodeSpec* const pool = poolOf(spec, uses, node.args[1].slot, static_cast<int>(i));
    if (pool == nullptr) continue;
    pool->op = kPoolThrough;
    pool->args.pop_back();
    pool->outs.insert(pool->outs.begin(), spec.slots);
    node.args[1].slot = spec.slots++;
  }
  return changed;
}

}  // namespace fornax
