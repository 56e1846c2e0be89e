#include "graph/shapes.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "graph/executor.h"
#include "graph/meta_kernels.h"

namespace fornax {

std::vector<NodeShapes> inferShapes(const Graph& graph, const std::vector<InputShape>& inputs) {
  registerMetaKernels();
  c10::NoGradGuard no_grad;
  auto meta = [](const std::vector<int64_t>& shape, c10::ScalarType dtype) {
    return at::empty(shape, at::TensorOptions(dtype).device(c10::kMeta));
  };
  std::vector<at::Tensor> parameters, values;
  for (const auto& parameter : graph.parameters())
    parameters.push_back(meta(parameter.shape, parameter.dtype));
  for (const auto& input : inputs) values.push_back(meta(input.shape, input.dtype));

  std::vector<NodeShapes> nodes(graph.nodes().size());
  RunContext context;
  context.parameters = &parameters;
  context.device = c10::Device(c10::kMeta);
  context.observer = [&](size_t index, const std::vector<c10::IValue>& arguments,
                         const std::vector<at::Tensor>& results) {
    NodeShapes& node = nodes[index];
    auto add = [&](const at::Tensor& tensor) {
      if (tensor.defined()) node.inputs.push_back(tensor.sizes().vec());
    };
    for (const auto& argument : arguments) {
      if (argument.isTensor()) {
        add(argument.toTensor());
      } else if (argument.isTensorList()) {
        for (const at::Tensor& tensor : argument.toTensorVector()) add(tensor);
      }
    }
    for (const auto& result : results) {
      if (!result.defined()) continue;
      node.outputs.push_back(result.sizes().vec());
      node.dtypes.push_back(result.scalar_type());
    }
  };
  runGraph(graph, std::move(values), context);
  return nodes;
}

}  // namespace fornax
