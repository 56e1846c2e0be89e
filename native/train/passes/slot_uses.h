// Who writes and who reads the slots of a graph that is being rewritten.
#pragma once

#include <vector>

#include "graph/spec.h"

namespace fornax {

struct SlotUses {
  explicit SlotUses(const GraphSpec& spec);

  // The node that writes the slot; -1 for inputs and parameters.
  std::vector<int> writer;
  // Nodes that read the slot as a tensor, once for each time, in execution order.
  std::vector<std::vector<int>> readers;
  // Slots that must exist whoever reads them: outputs, and those whose size is asked for by name.
  std::vector<bool> pinned;

  // The only node that reads the slot, and it once; -1 if there is none or anything else wants the slot.
  int onlyReader(int slot) const;
};

}  // namespace fornax
