// Batch norm becomes one operator with what follows it: an addition, an activation and a conversion, each
// optional, as long as nobody else reads what is in between (train/kernels/batch_norm_act.h).
#pragma once

#include "graph/spec.h"

namespace fornax {

// Whether it changed the graph. The new node stands where the last of its members stood and has the path of
// the batch norm, by which modes are chosen.
bool fuseBatchNorm(GraphSpec& spec);

}  // namespace fornax
