// Calls one operator eagerly, by the executor's own path.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "graph/spec.h"

namespace fornax {

// Slots in `args` are indices into `tensors`. Results in schema order. Unrestricted: for a user's own script.
std::vector<at::Tensor> callOperator(const std::string& name, std::vector<ArgumentSpec> args,
                                     const std::vector<at::Tensor>& tensors);

struct OperatorSchema {
  struct Argument {
    std::string name, type;
    bool optional;
    std::string default_value;  // empty if there is none
  };
  std::string name;
  std::vector<Argument> arguments;
  std::vector<std::string> returns;
};

// False if libtorch does not know the operator.
bool findOperatorSchema(const std::string& name, OperatorSchema& schema);

}  // namespace fornax
