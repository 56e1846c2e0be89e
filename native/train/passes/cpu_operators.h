// Operators exchanged, one for one, for ones of ours that compute the same faster on a CPU.
#pragma once

#include "graph/spec.h"
#include "train/options.h"

namespace fornax {

// Whether it changed the graph.
bool exchangeCpuOperators(GraphSpec& spec, Precision precision);

// Whether the node takes the means over all pixels.
bool poolsToOnePixel(const NodeSpec& node);

}  // namespace fornax
