// Binds the arguments of a node to the schema of its operator: constants are converted once, everything else
// becomes a DynamicArgument.
#pragma once

#include <ATen/core/function_schema.h>

#include <string>

#include "graph/graph.h"

namespace fornax {

// Fills node.stack, node.dynamic, node.modal. Throws GraphError naming `where` and the argument.
void bindArguments(const c10::FunctionSchema& schema, const NodeSpec& source, const std::string& where,
                   Node& node);

}  // namespace fornax
