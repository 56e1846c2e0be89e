#include "graph/call.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <sstream>
#include <utility>

#include "core/error.h"
#include "graph/executor.h"
#include "graph/graph.h"

namespace fornax {

namespace {

std::optional<c10::OperatorHandle> find(const std::string& name) {
  size_t colons = name.find("::");
  if (colons == std::string::npos) return std::nullopt;
  size_t dot = name.find('.', colons);
  return c10::Dispatcher::singleton().findSchema(
      {name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1)});
}

}  // namespace

std::vector<at::Tensor> callOperator(const std::string& name, std::vector<ArgumentSpec> args,
                                     const std::vector<at::Tensor>& tensors) {
  GraphSpec spec;
  spec.format_version = 1;
  spec.slots = static_cast<int>(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    spec.inputs.push_back({std::to_string(i), static_cast<int>(i)});
  }
  NodeSpec node;
  node.op = name;
  node.args = std::move(args);
  auto op = find(name);
  if (!op) {
    throw Error(ErrorKind::Argument, "unknown operator '" + name + "'", "",
                "check the name and the overload (aten::add.Tensor)");
  }
  // Results are taken from the node itself; the slots only satisfy the graph's form.
  const auto& returns = op->schema().returns();
  bool list = returns.size() == 1 && returns[0].type()->kind() == c10::TypeKind::ListType;
  node.outs.assign(list ? 1 : returns.size(), -1);
  if (!node.outs.empty()) {
    node.outs[0] = spec.slots++;
    spec.outputs.push_back({"result", node.outs[0]});
  } else if (!tensors.empty()) {
    spec.outputs.push_back({"result", 0});
  }
  spec.nodes.push_back(std::move(node));
  Graph graph(std::move(spec), /*trusted=*/true);
  RunContext context;
  if (!tensors.empty()) context.device = tensors[0].device();
  return runSingleNode(graph, tensors, context);
}

bool findOperatorSchema(const std::string& name, OperatorSchema& schema) {
  auto op = find(name);
  if (!op) return false;
  schema.name = name;
  for (const auto& argument : op->schema().arguments()) {
    std::ostringstream fallback;
    if (argument.default_value()) fallback << *argument.default_value();
    schema.arguments.push_back(
        {argument.name(), argument.real_type()->str(),
         argument.default_value().has_value() || argument.type()->kind() == c10::TypeKind::OptionalType,
         fallback.str()});
  }
  for (const auto& result : op->schema().returns()) schema.returns.push_back(result.real_type()->str());
  return true;
}

}  // namespace fornax
