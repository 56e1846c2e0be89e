#include "infer/session.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "core/generator.h"
#include "train/precision/autocast.h"

namespace fornax {

namespace {

bool allEval(const Modes& modes) {
  for (const auto& rule : modes.overrides) {
    if (rule.mode != Mode::Eval) return false;
  }
  return modes.dropout == Mode::Eval && modes.batch_norm == Mode::Eval &&
         modes.stochastic_depth == Mode::Eval;
}

std::vector<size_t> selectOutputs(const Graph& graph, const ForwardOptions& options) {
  if (options.outputs) return outputsNamed(graph, *options.outputs);
  return allEval(options.modes) ? mainOutputs(graph) : allOutputs(graph);
}

}  // namespace

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

void InferenceSession::assign(size_t index, const at::Tensor& values) {
  c10::NoGradGuard no_grad;
  state_->at(index).detach().copy_(values);
  const at::Tensor own = (*parameters())[index];
  own.copy_(values);
}

NamedTensors InferenceSession::forward(const std::shared_ptr<const Graph>& graph, const Batch& inputs,
                                       const ForwardOptions& options, const std::atomic<bool>& stop) const {
  c10::NoGradGuard no_grad;
  AutocastScope autocast(options_.device.type(), options_.precision);
  const auto selected = pruned_.get(graph, {selectOutputs(*graph, options), options.taps});
  auto tensors = parameters();
  ModeTable modes = resolveModes(*selected, options.modes);
  RunContext context;
  context.parameters = tensors.get();
  context.modes = &modes;
  context.generator = makeGenerator(options_.device, options.seed);
  context.device = options_.device;
  context.stop = &stop;
  std::vector<at::Tensor> outputs =
      runGraph(*selected, device_batch_.modelInputs(*selected, inputs), context);
  NamedTensors result;
  for (size_t i = 0; i < outputs.size(); ++i) result.emplace_back(selected->outputs()[i].name, outputs[i]);
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
