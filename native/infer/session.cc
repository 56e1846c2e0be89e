#include "infer/session.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <unordered_map>

#include "core/error.h"
#include "core/generator.h"
#include "train/autocast.h"

namespace fornax {

InferenceSession::InferenceSession(std::shared_ptr<State> state, InferenceOptions options)
    : state_(std::move(state)),
      options_(std::move(options)),
      device_batch_(options_.device, options_.normalize, options_.channels_last) {
  refresh();
}

void InferenceSession::refresh() {
  c10::NoGradGuard no_grad;
  auto tensors = std::make_shared<std::vector<at::Tensor>>();
  tensors->reserve(state_->size());
  for (const at::Tensor& source : state_->tensors()) {
    at::Tensor tensor = source.detach().to(options_.device);
    if (tensor.dim() == 4) {
      tensor = tensor.contiguous(options_.channels_last ? at::MemoryFormat::ChannelsLast
                                                        : at::MemoryFormat::Contiguous);
    }
    tensors->push_back(std::move(tensor));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  parameters_ = std::move(tensors);
}

std::shared_ptr<const std::vector<at::Tensor>> InferenceSession::parameters() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return parameters_;
}

NamedTensors InferenceSession::forward(const Graph& graph, const Batch& inputs, const ForwardOptions& options,
                                       const std::atomic<bool>& stop) const {
  c10::NoGradGuard no_grad;
  AutocastScope autocast(options_.device.type(), options_.precision);
  auto tensors = parameters();
  ModeTable modes = resolveModes(graph, options.modes);
  RunContext context;
  context.parameters = tensors.get();
  context.modes = &modes;
  context.generator = makeGenerator(options_.device, options.seed);
  context.device = options_.device;
  context.stop = &stop;

  std::unordered_map<size_t, std::vector<std::string>> taps;
  std::unordered_map<std::string, at::Tensor> tapped;
  for (const auto& path : options.taps) {
    int node = graph.lastNodeOf(path);
    if (node < 0) {
      throw Error(ErrorKind::Argument, "the model has no module '" + path + "' that computes anything", "",
                  "see model.summary() for the module paths");
    }
    taps[static_cast<size_t>(node)].push_back(path);
  }
  if (!taps.empty()) {
    context.observer = [&](size_t node, const std::vector<c10::IValue>&,
                           const std::vector<at::Tensor>& results) {
      auto found = taps.find(node);
      if (found == taps.end()) return;
      for (const auto& path : found->second) {
        for (size_t i = 0; i < results.size() && !tapped[path].defined(); ++i) tapped[path] = results[i];
      }
    };
  }
  std::vector<at::Tensor> outputs = runGraph(graph, device_batch_.modelInputs(graph, inputs), context);
  NamedTensors result;
  for (size_t i = 0; i < outputs.size(); ++i) result.emplace_back(graph.outputs()[i].name, outputs[i]);
  for (const auto& path : options.taps) result.emplace_back(path, tapped[path]);
  return result;
}

std::vector<at::Tensor> InferenceSession::evaluate(const Graph& graph, const Batch& inputs,
                                                   const std::atomic<bool>& stop) const {
  c10::InferenceMode inference;
  AutocastScope autocast(options_.device.type(), options_.precision);
  auto tensors = parameters();
  RunContext context;
  context.parameters = tensors.get();
  context.device = options_.device;
  context.stop = &stop;
  return runGraph(graph, device_batch_.modelInputs(graph, inputs), context);
}

}  // namespace fornax
