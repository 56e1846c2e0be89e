#include "train/passes/cpu_operators.h"

#include <unordered_map>

#include "train/kernels/cpu_linear.h"
#include "train/kernels/depthwise_conv.h"
#include "train/kernels/global_pool.h"

namespace fornax {

namespace {

bool isOne(const ArgumentSpec& argument) {
  return argument.kind == ArgumentSpec::Kind::Number && argument.number == 1;
}

// Slots of weights of one channel each, [C, 1, k, k] → C.
std::unordered_map<int, int64_t> depthwiseWeights(const GraphSpec& spec) {
  std::unordered_map<int, int64_t> channels;
  for (const ParameterSpec& parameter : spec.parameters) {
    if (parameter.shape.size() == 4 && parameter.shape[1] == 1) channels[parameter.slot] = parameter.shape[0];
  }
  return channels;
}

bool isDepthwise(const NodeSpec& node, const std::unordered_map<int, int64_t>& weights) {
  if (node.op != "aten::conv2d" || node.args.size() != 7) return false;
  if (node.args[1].kind != ArgumentSpec::Kind::Slot || node.args[6].kind != ArgumentSpec::Kind::Number) {
    return false;
  }
  const auto weight = weights.find(node.args[1].slot);
  return weight != weights.end() && weight->second > 1 &&
         static_cast<double>(weight->second) == node.args[6].number;
}

}  // namespace

bool poolsToOnePixel(const NodeSpec& node) {
  if (node.op != "aten::adaptive_avg_pool2d" || node.args.size() != 2) return false;
  const std::vector<ArgumentSpec>& size = node.args[1].list;
  return size.size() == 2 && isOne(size[0]) && isOne(size[1]);
}

bool exchangeCpuOperators(GraphSpec& spec, Precision precision) {
  // Autocast knows aten::linear and aten::conv2d, but not what stands in for them.
  const bool linear = precision == Precision::Float32 && cpuLinearGains();
  const bool depthwise = precision == Precision::Float32 && depthwiseConvGains();
  const auto weights = depthwiseWeights(spec);
  bool changed = false;
  for (NodeSpec& node : spec.nodes) {
    if (depthwise && isDepthwise(node, weights)) {
      node.op = kDepthwiseConv;
      changed = true;
    } else if (linear && node.op == "aten::linear") {
      node.op = kCpuLinear;
      changed = true;
    } else if (poolsToOnePixel(node)) {
      node.op = kGlobalPool;
      node.args.pop_back();
      changed = true;
    }
  }
  return changed;
}

}  // namespace fornax
