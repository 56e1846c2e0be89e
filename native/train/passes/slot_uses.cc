#include "train/passes/slot_uses.h"

#include "graph/graph.h"

namespace fornax {

namespace {

void collect(const ArgumentSpec& argument, int node, SlotUses& uses) {
  if (argument.kind == ArgumentSpec::Kind::Slot) uses.readers[argument.slot].push_back(node);
  for (const ArgumentSpec& element : argument.list) collect(element, node, uses);
  std::vector<int> sized;
  collectSlots(argument.expr, sized);
  for (int slot : sized) uses.pinned[slot] = true;
}

}  // namespace

SlotUses::SlotUses(const GraphSpec& spec)
    : writer(spec.slots, -1), readers(spec.slots), pinned(spec.slots, false) {
  for (size_t i = 0; i < spec.nodes.size(); ++i) {
    for (const ArgumentSpec& argument : spec.nodes[i].args) collect(argument, static_cast<int>(i), *this);
    for (int slot : spec.nodes[i].outs) {
      if (slot >= 0) writer[slot] = static_cast<int>(i);
    }
  }
  for (const PortSpec& port : spec.outputs) pinned[port.slot] = true;
  std::vector<int> guarded;
  for (const GuardSpec& guard : spec.guards) {
    collectSlots(guard.left, guarded);
    collectSlots(guard.right, guarded);
  }
  for (int slot : guarded) pinned[slot] = true;
}

int SlotUses::onlyReader(int slot) const {
  return slot >= 0 && !pinned[slot] && readers[slot].size() == 1 ? readers[slot][0] : -1;
}

}  // namespace fornax
