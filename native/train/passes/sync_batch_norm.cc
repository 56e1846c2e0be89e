#include "train/passes/sync_batch_norm.h"

#include <utility>

namespace fornax {

bool synchronizeBatchNorm(GraphSpec& spec, int64_t group) {
  bool changed = false;
  for (NodeSpec& node : spec.nodes) {
    // The operator takes the same arguments in the same order, none left out, and the group after them.
    if (node.op != "fornax::batch_norm" || node.args.size() != 9) continue;
    node.op = "fornax::sync_batch_norm";
    ArgumentSpec id;
    id.kind = ArgumentSpec::Kind::Number;
    id.number = static_cast<double>(group);
    node.args.push_back(std::move(id));
    changed = true;
  }
  return changed;
}

}  // namespace fornax
