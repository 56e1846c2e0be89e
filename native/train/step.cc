#include "train/step.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "core/generator.h"
#include "dist/process_group.h"
#include "graph/prune.h"
#include "train/memory/forward_state.h"
#include "train/optim/gradient_clip.h"
#include "train/passes/precision.h"
#include "train/precision/autocast.h"
#include "train/prepare_graph.h"
#include "train/torch_errors.h"

namespace fornax {

namespace {

size_t findLossOutput(const Graph& loss) {
  for (size_t i = 0; i < loss.outputs().size(); ++i) {
    if (loss.outputs()[i].name == "loss") return i;
  }
  throw Error(ErrorKind::Argument, "the loss graph has no output named `loss`", "loss");
}

}  // namespace

TrainStep::TrainStep(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
                     std::shared_ptr<const Graph> loss, const TrainOptions& options,
                     const std::atomic<bool>* abort)
    : state_(std::move(state)),
      lease_(state_),
      loss_(std::move(loss)),
      options_(options),
      abort_(abort),
      loss_output_(findLossOutput(*loss_)),
      upload_(options.device, 2 * static_cast<size_t>(std::max<int64_t>(options.grad_accum, 1))),
      device_batch_(options.device, options.normalize, options.channels_last),
      generator_(
          makeGenerator(options.device,
                        options.seed + (options.group ? static_cast<uint64_t>(options.group->rank()) : 0))) {
  if (!loss_->parameters().empty()) {
    throw Error(ErrorKind::Argument, "the loss graph has parameters of its own", "loss",
                "make them part of the model and pass what they compute as an output");
  }
  useGraph(std::move(graph));
  loss_modes_ = resolveModes(*loss_, options_.modes);
  moveState();
  trained_.emplace(options_.groups, *state_, parameters_);
  optimizer_ = makeOptimizer(options_.optimizer, trained_->groups());
  if (options_.group) reducer_ = std::make_unique<GradientReducer>(options_.group, trained_->tensors());
  if (options_.teacher) teacher_.emplace(*options_.teacher, *loss_, options_);
  if (options_.mix)
    mixing_.emplace(*options_.mix, options_.seed, options_.group ? options_.group->rank() : 0);
  if (options_.precision == Precision::Float16) scaler_.emplace(options_.scaler, options_.device);
  NamedTensors entries;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    entries.emplace_back(state_->specs()[i].name, parameters_[i]);
  }
  if (options_.ema) ema_.emplace(*options_.ema, entries);
  if (options_.swa) swa_.emplace(*options_.swa, std::move(entries));
}

TrainStep::~TrainStep() {
  clearGradients();
}

bool TrainStep::useGraph(std::shared_ptr<const Graph> graph) {
  if (source_graph_ == graph) return false;
  const auto planned = applyPrecision(graph, options_.bf16_nodes);
  auto needed = prune(planned, {outputsForLoss(*planned, loss_.get()), {}});
  Preparation preparation{options_.device, options_.precision, options_.fuse && !options_.tape};
  if (options_.group && options_.sync_batch_norm) preparation.batch_norm_group = options_.group->id();
  auto prepared = prepareForTraining(needed, preparation);
  modes_ = resolveModes(*prepared, options_.modes);
  graph_ = std::move(prepared);
  needed_graph_ = std::move(needed);
  source_graph_ = std::move(graph);  // last: what fails above is tried again with the next job
  return true;
}

// The tensors that are in place already stay the very same, so that handles to them stay valid.
void TrainStep::moveState() {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < state_->size(); ++i) {
    const at::Tensor current = state_->at(i);
    at::Tensor tensor = current.to(options_.device);
    if (tensor.dim() == 4) {
      tensor = tensor.contiguous(options_.channels_last ? at::MemoryFormat::ChannelsLast
                                                        : at::MemoryFormat::Contiguous);
    }
    if (!tensor.is_same(current)) state_->replace(i, tensor);
    tensor.set_requires_grad(false);
    // Whatever they started from, all processes train the same weights.
    if (options_.group) options_.group->broadcast(tensor);
    parameters_.push_back(std::move(tensor));
  }
}

Batch TrainStep::mixed(const Batch& batch) {
  if (!mixing_ || !given_.empty()) return batch;
  const c10::NoGradGuard no_grad;
  mixing_->checkLabels(batch);
  return mixing_->apply(upload_.bring(batch), *graph_, device_batch_, teacher_ ? &*teacher_ : nullptr);
}

StepInputs TrainStep::prepare(const Batch& batch) {
  if (!given_.empty()) {
    StepInputs inputs = std::move(given_.front());
    given_.pop_front();
    return inputs;
  }
  const c10::NoGradGuard no_grad;
  Batch seen = upload_.bring(batch);
  if (teacher_) {
    const AutocastScope autocast(options_.device.type(), options_.precision);
    seen = teacher_->withOutputs(seen, abort_);
  }
  return {device_batch_.modelInputs(*graph_, seen), device_batch_.lossFields(*loss_, *graph_, seen),
          batchSize(batch), globalRows(batch)};
}

std::vector<at::Tensor> TrainStep::forward(const StepInputs& inputs) {
  RunContext context;
  context.parameters = &parameters_;
  context.modes = &modes_;
  context.generator = generator_;
  context.device = options_.device;
  context.stop = abort_;
  if (inspector_) {
    inspector_->begin(trained_->named(), *graph_, inputs.model);
    context.observer = inspector_->observe(*graph_, /*is_loss=*/false);
  }
  return runGraph(*graph_, inputs.model, context);
}

at::Tensor TrainStep::lossOf(const std::vector<at::Tensor>& outputs, const StepInputs& inputs) {
  static const std::vector<at::Tensor> no_parameters;
  RunContext context;
  context.parameters = &no_parameters;
  context.modes = &loss_modes_;
  context.generator = generator_;
  context.device = options_.device;
  context.stop = abort_;
  if (inspector_) {
    inspector_->given(inputs.loss.fields);
    context.observer = inspector_->observe(*loss_, /*is_loss=*/true);
  }
  const at::Tensor loss = runGraph(*loss_, device_batch_.lossInputs(*loss_, *graph_, outputs, inputs.loss),
                                   context)[loss_output_];
  if (loss.numel() != 1) {
    throw Error(ErrorKind::Execution, "the loss has " + std::to_string(loss.numel()) + " elements, not one",
                "loss", "reduce it to its mean or sum");
  }
  if (!loss.requires_grad()) {
    throw Error(ErrorKind::Execution, "the loss does not depend on any trained parameter", "loss",
                "check the parameter groups and the loss graph");
  }
  return loss;
}

int64_t TrainStep::leastRows(const Batch& row) const {
  const c10::NoGradGuard no_grad;
  std::vector<InputShape> inputs;
  for (const at::Tensor& input : device_batch_.modelInputs(*graph_, row)) {
    inputs.push_back({input.sizes().vec(), input.scalar_type()});
    if (!inputs.back().shape.empty()) inputs.back().shape[0] = 2;
  }
  return leastRowsOf(*needed_graph_, resolveModes(*needed_graph_, options_.modes), inputs);
}

int64_t TrainStep::globalRows(const Batch& batch) const {
  if (batch.global_rows > 0) return batch.global_rows;
  return batchSize(batch) * (options_.group ? options_.group->size() : 1);
}

void TrainStep::reduce(const at::Tensor& loss) {
  if (!reducer_) return;
  reducer_->finish();
  options_.group->sum(loss);
}

TrainStep::MicroResult TrainStep::accumulate(const StepInputs& inputs, double weight, bool last) {
  const c10::AutoGradMode grad_mode(true);
  MicroResult result;
  at::Tensor loss;
  {
    const AutocastScope autocast(options_.device.type(), options_.precision);
    result.outputs = forward(inputs);
    loss = lossOf(result.outputs, inputs);
  }
  if (after_forward_) after_forward_();
  // Detached first: then nothing but the loss keeps the autograd graph, and backward frees it as it goes.
  for (at::Tensor& output : result.outputs) output = output.detach();
  result.loss = loss.detach();
  if (reducer_) {
    // Of a mean over the whole batch each process has the share of its rows; shares are then added up.
    const double share = static_cast<double>(inputs.rows) / static_cast<double>(inputs.global_rows);
    result.loss = result.loss * share;
    weight *= share;
    if (last) reducer_->arm();
  }
  if (weight != 1) loss = loss * weight;
  if (scaler_) loss = scaler_->scaleLoss(loss);
  inPhase("backward", [&] { loss.backward(); });
  if (inspector_) inspector_->gradients(trained_->namedGradients());
  return result;
}

void TrainStep::unscaleGradients() {
  const c10::NoGradGuard no_grad;
  if (scaler_) scaler_->unscale(trained_->definedGradients());
}

at::Tensor TrainStep::clipGradients() {
  if (!options_.clip_norm && !options_.clip_value) return {};
  const c10::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = trained_->definedGradients();
  if (gradients.empty()) return {};
  at::Tensor norm;
  if (options_.clip_norm) {
    norm = totalNorm(gradients);
    clipByNorm(gradients, norm, *options_.clip_norm);
  }
  if (options_.clip_value) clipByValue(gradients, *options_.clip_value);
  return norm;
}

void TrainStep::takeBack(int64_t first, int64_t last) {
  if (ema_) ema_->takeBack(last - first + 1);
  if (swa_) swa_->takeBack(first, last);
}

void TrainStep::setMomentum(double momentum) {
  if (optimizer_->setMomentum(momentum)) return;
  throw Error(ErrorKind::Argument, "the schedule moves momentum, which the optimizer does not have",
              "schedule.cycle_momentum", "give the optimizer a momentum, or leave cycle_momentum off");
}

void TrainStep::beginUpdate(double lr) {
  lr_ = lr;
  if (optimizer_->hasRateOnDevice()) optimizer_->setRateOnDevice(lr);
  if (ema_) ema_->advance();
}

void TrainStep::applyUpdate() {
  const c10::NoGradGuard no_grad;
  inPhase("the optimizer's update", [&] {
    if (scaler_ && guard_) scaler_->skipWhere(*guard_);
    optimizer_->step(lr_, scaler_ ? &scaler_->foundInf() : guard_);
    if (scaler_) scaler_->update(guard_);
    if (ema_) ema_->update(guard_);
  });
}

std::string TrainStep::recordingObstacle() const {
  return options_.group ? "several processes train together" : "";
}

void TrainStep::keepNumbersOnDevice(bool momentum) {
  optimizer_->keepNumbersOnDevice(options_.device, momentum);
  if (ema_) ema_->keepShareOnDevice();
}

void TrainStep::give(std::vector<StepInputs> prepared) {
  given_.assign(std::make_move_iterator(prepared.begin()), std::make_move_iterator(prepared.end()));
}

void TrainStep::clearGradients() {
  if (reducer_) reducer_->reset();
  if (trained_) trained_->clearGradients();
}

NamedTensors TrainStep::stateTensors() const {
  NamedTensors tensors;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    tensors.emplace_back(state_->specs()[i].name, parameters_[i]);
  }
  return tensors;
}

std::vector<at::Tensor> TrainStep::writtenBuffers() const {
  std::vector<at::Tensor> buffers;
  for (const size_t i : fornax::writtenBuffers(*graph_, modes_)) buffers.push_back(parameters_[i]);
  return buffers;
}

int64_t TrainStep::trainingBatchNorms() const {
  return fornax::trainingBatchNorms(*graph_, modes_);
}

NamedTensors TrainStep::averages() {
  if (ema_) return ema_->averages();
  return swa_ ? swa_->averages() : NamedTensors();
}

NamedTensors TrainStep::resumeState() {
  NamedTensors state;
  for (auto& [name, tensor] : optimizer_->state()) state.emplace_back("optimizer/" + name, tensor);
  if (scaler_) {
    state.emplace_back("scaler/scale", scaler_->scale());
    state.emplace_back("scaler/growth_tracker", scaler_->growthTracker());
    state.emplace_back("scaler/skipped", scaler_->skipped());
    state.emplace_back("scaler/skipped_in_a_row", scaler_->skippedInARow());
  }
  if (ema_) {
    for (const auto& [name, tensor] : ema_->averages()) state.emplace_back("ema/" + name, tensor);
    state.emplace_back("ema_updates", ema_->updates());
  }
  if (swa_) {
    for (const auto& [name, tensor] : swa_->averages()) state.emplace_back("swa/" + name, tensor);
    state.emplace_back("swa_count", swa_->count());
  }
  return state;
}

}  // namespace fornax
