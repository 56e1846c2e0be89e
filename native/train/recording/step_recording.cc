#include "train/recording/step_recording.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/enum_tag.h>

#include "core/error.h"

namespace fornax {

namespace {

std::string placeOf(const Node& node) {
  return node.path.empty() ? "`" + node.name + "`" : "`" + node.path + "` (" + node.name + ")";
}

// The momentum is the last argument but one, and constant.
bool isCumulative(const Node& node) {
  return node.name == "fornax::batch_norm" && node.stack.size() > 7 && node.stack[7].isNone();
}

bool isShapedByValues(const Node& node) {
  // An index of integers gives a size known beforehand, one of booleans does not: recording will tell.
  if (node.name == "aten::index.Tensor") return false;
  return node.op.hasTag(at::Tag::data_dependent_output) || node.op.hasTag(at::Tag::dynamic_output_shape);
}

// Operators of ours that compute on the CPU whatever the device.
bool isComputedByHost(const Node& node) {
  return node.name == "fornax::prior_boxes" || node.name == "fornax::match_priors" ||
         node.name == "fornax::decode_faces";
}

}  // namespace

std::string recordingObstacle(const Graph& graph) {
  for (const Node& node : graph.nodes()) {
    if (isCumulative(node)) return placeOf(node) + " averages its statistics by a count that the host reads";
    if (isComputedByHost(node)) return placeOf(node) + " is computed by the host";
    if (isShapedByValues(node)) return placeOf(node) + " gives results whose sizes depend on values";
  }
  return {};
}

std::unique_ptr<StepRecording> makeRecording(c10::Device device, const at::Generator& generator) {
  if (device.is_cpu()) return makeTapeRecording(generator);
#ifdef FORNAX_CUDA
  if (device.is_cuda()) return makeCudaRecording(generator);
#endif
  throw Error(ErrorKind::Device, "steps cannot be recorded on " + device.str(), "CUDA graphs",
              "set cuda_graphs to off");
}

}  // namespace fornax
