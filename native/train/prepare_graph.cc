#include "train/prepare_graph.h"

#include <utility>

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

std::shared_ptr<const Graph> prepareForTraining(std::shared_ptr<const Graph> graph, c10::Device device,
                                                Precision precision) {
  if (!device.is_cpu()) return graph;
  // Autocast knows aten::linear, but not what stands in for it.
  const bool linear = precision == Precision::Float32 && cpuLinearGains();
  GraphSpec spec = graph->spec();
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
  return changed ? std::make_shared<const Graph>(std::move(spec), /*trusted=*/true) : graph;
}

std::shared_ptr<const Graph> synchronizeBatchNorm(std::shared_ptr<const Graph> graph, int64_t group) {
  GraphSpec spec = graph->spec();
  bool changed = false;
  for (NodeSpec& node : spec.nodes) {
    // The operator takes the same arguments in the same order, none left out, and the group after them.
    if (node.op != "fornax::batch_norm" || node.args.size() != 9) continue;
    node.op = "fornax::sync_batch_norm";
    ArgumentSpec id;
    id.kind = ArgumentSpec::Kind::Number;
    id.number = static_cast<double>(group);
    node.args.push_back(std::move(id));
    changed = true;
  }
  return changed ? std::make_shared<const Graph>(std::move(spec), /*trusted=*/true) : graph;
}

}  // namespace fornax
