// Linear layers on CPUs for which libtorch has no fast matrix product. libtorch multiplies float32 matrices with
// Intel's MKL, which keeps its AVX-512 kernels to Intel's processors; oneDNN, which libtorch carries for
// convolutions, does not. On an AMD EPYC (Zen 5) its products take half the time, forward and backward.
#pragma once

#include <memory>

#include "graph/graph.h"

namespace fornax {

// The graph with `aten::linear` replaced by an operator that goes through oneDNN where the product is large enough
// to gain, or the same graph where nothing would be gained. For float32 without autocast.
std::shared_ptr<const Graph> withFastLinear(std::shared_ptr<const Graph> graph);

}  // namespace fornax
