#include "train/passes/cpu_operators.h"

#include "train/cpu_linear.h"
#include "train/global_pool.h"

namespace fornax {

namespace {

bool isOne(const ArgumentSpec& argument) {
  return argument.kind == ArgumentSpec::Kind::Number && argument.number == 1;
}

bool poolsToOnePixel(const NodeSpec& node) {
  if (node.op != "aten::adaptive_avg_pool2d" || node.args.size() != 2) return false;
  const std::vector<ArgumentSpec>& size = node.args[1].list;
  return size.size() == 2 && isOne(size[0]) && isOne(size[1]);
}

}  // namespace

bool exchangeCpuOperators(GraphSpec& spec, Precision precision) {
  // Autocast knows aten::linear, but not what stands in for it.
  const bool linear = precision == Precision::Float32 && cpuLinearGains();
  bool changed = false;
  for (NodeSpec& node : spec.nodes) {
    if (linear && node.op == "aten::linear") {
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
