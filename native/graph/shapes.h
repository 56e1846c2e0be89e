// Shapes of every node, by running the graph on the meta device: for the common operators without memory and
// arithmetic, for the rest on zeros (see meta_kernels.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "graph/graph.h"

namespace fornax {

struct NodeShapes {
  std::vector<std::vector<int64_t>> inputs, outputs;
  std::vector<c10::ScalarType> dtypes;  // of the outputs
};

struct InputShape {
  std::vector<int64_t> shape;
  c10::ScalarType dtype;
};

// One entry per node. Errors as runGraph.
std::vector<NodeShapes> inferShapes(const Graph& graph, const std::vector<InputShape>& inputs);

}  // namespace fornax
