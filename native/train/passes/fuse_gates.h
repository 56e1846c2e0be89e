// Squeeze-and-excitation in a graph that is to be trained on a CPU: a product with the result of a sigmoid
// becomes fornax::gate, and the pool over the same value fornax::pool_through (kernels/gate.h). Whether the
// factor really is one per channel is seen when the node runs.
#pragma once

#include "graph/spec.h"

namespace fornax {

// Whether anything was changed.
bool fuseGates(GraphSpec& spec);

}  // namespace fornax
