#include "train/prepare_graph.h"

#include <utility>

#include "train/passes/cpu_operators.h"
#include "train/passes/fuse_batch_norm.h"
#include "train/passes/fuse_gates.h"
#include "train/passes/sync_batch_norm.h"

namespace fornax {

std::shared_ptr<const Graph> prepareForTraining(std::shared_ptr<const Graph> graph,
                                                const Preparation& preparation) {
  GraphSpec spec = graph->spec();
  bool changed = false;
  // A batch norm over several processes exchanges sums in the middle: nothing may be fused with it.
  if (preparation.batch_norm_group) changed |= synchronizeBatchNorm(spec, *preparation.batch_norm_group);
  if (preparation.device.is_cpu() && preparation.fuse) {
    // Autocast knows aten::mul, which promotes what it is given.
    if (preparation.precision == Precision::Float32) changed |= fuseGates(spec);
    changed |= exchangeCpuOperators(spec, preparation.precision);
    changed |= fuseBatchNorm(spec);
  }
  return changed ? std::make_shared<const Graph>(std::move(spec), /*trusted=*/true) : graph;
}

}  // namespace fornax
