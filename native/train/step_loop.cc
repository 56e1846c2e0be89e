#include "train/step_loop.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>
#include <vector>

#include "device/side_stream.h"
#include "device/sync_count.h"
#include "dist/process_group.h"
#include "train/nan/step_diagnosis.h"

namespace fornax {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Recorded steps are computed on a stream of their own.
std::unique_ptr<OwnStream> streamFor(const StepCapture* capture, c10::Device device) {
  if (!capture || !capture->declined().empty()) return nullptr;
  return std::make_unique<OwnStream>(device);
}

std::optional<c10::Stream> streamOf(const std::unique_ptr<OwnStream>& own) {
  return own ? std::optional(own->stream()) : std::nullopt;
}

}  // namespace

StepLoop::StepLoop(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
                   std::shared_ptr<const Graph> loss, const TrainOptions& options, const Schedule& schedule,
                   SessionSignals& signals)
    : options_(options),
      schedule_(schedule),
      signals_(signals),
      step_(std::move(graph), std::move(state), std::move(loss), options_, &signals_.abort),
      micro_batches_(step_, options_),
      capture_(makeStepCapture(step_, options_, schedule_)),
      guard_(step_, micro_batches_, capture_.get(), options_),
      source_step_(step_, micro_batches_, capture_.get(), guard_, schedule_, options_, signals_) {
  stream_ = streamFor(capture_.get(), options_.device);
  if (const auto momentum = schedule_.momentum(0)) step_.setMomentum(*momentum);
}

// Asked once before every step. A stop that reaches one process ends the run of all of them before the same
// step, and so does a fault that one of them hears of: the others will once they wait for their losses, which
// are the same.
bool StepLoop::endAgreed(bool fault) {
  ProcessGroup* const group = options_.group.get();
  if (!group) return fault || signals_.stop;
  if (!group->any(fault || signals_.stop)) return false;
  if (group->any(signals_.stop)) signals_.stop = true;
  return true;
}

// Returns the rate it used.
double StepLoop::finishStep(bool repeated) {
  const int64_t done = signals_.steps;
  const double lr = schedule_.learningRate(done);
  const auto momentum = schedule_.momentum(done);
  if (momentum && !repeated) step_.setMomentum(*momentum);
  MicroBatches::inUpdate(done, [&] {
    if (!repeated) step_.update(lr);
    step_.average(done + 1);
  });
  signals_.steps = done + 1;
  return lr;
}

RunResult StepLoop::run(BatchSource& source, const RunOptions& options,
                        const std::function<void(StepsEvent)>& on_event) {
  const OptionalStreamScope stream(streamOf(stream_));
  const auto start = Clock::now();
  auto interval_start = start;
  RunResult result;
  guard_.beginRun(signals_.steps);
  StepRecorder recorder(options_.device, step_.scaler(), guard_.counts());
  std::optional<NonFinite> late_fault;
  const auto emit = [&](bool wait) {
    while (auto event = recorder.take(wait)) {
      const bool flagged = late_fault && late_fault->what != NonFinite::What::Scale;
      if (flagged) continue;  // steps that changed nothing
      if (auto fault = guard_.inspect(*event)) late_fault = std::move(fault);
      on_event(std::move(*event));
    }
  };
  const auto closeInterval = [&] {
    recorder.close(secondsSince(interval_start));
    interval_start = Clock::now();
  };
  const auto tellAll = [&] {
    if (!recorder.empty()) closeInterval();
    emit(true);
  };
  const OnHalved on_halved = [&](const Halving& halving) {
    tellAll();  // in their order
    if (options.on_halved) options.on_halved(halving);
  };

  const auto syncs = options_.count_syncs ? countSyncs(options_.device) : nullptr;
  try {
    while (result.steps < options.steps && !endAgreed(late_fault.has_value())) {
      signals_.throwIfAborted();
      const SourceStep::Result step = source_step_.compute(source, on_halved);
      if (step.micro_batches == 0) {
        if (!signals_.stop) result.reason = RunResult::Reason::EpochEnd;
        break;
      }
      const bool last = result.steps + 1 == options.steps || (!options_.group && signals_.stop);
      result.fault = guard_.look(signals_.steps, step.loss, step.norm, last);
      if (result.fault) break;
      const double lr = finishStep(step.repeated);
      ++result.steps;
      result.repeated += step.repeated ? 1 : 0;
      result.samples += step.samples;
      if (capture_) recorder.decline(capture_->news());
      recorder.record(signals_.steps, step.loss, lr, step.samples, step.wait_seconds, step.repeated);
      if (secondsSince(interval_start) >= options.event_interval) {
        emit(false);
        closeInterval();
        if (options_.device.is_cpu()) emit(false);
      }
      if (step.micro_batches < options_.grad_accum && result.steps < options.steps) {
        result.reason = RunResult::Reason::EpochEnd;
        break;
      }
    }
  } catch (...) {
    const std::exception_ptr failure = std::current_exception();
    try {
      // The steps that were done are in the weights: they are told of before the failure is.
      if (!signals_.abort) tellAll();
      result.fault = late_fault;
      if (result.fault) finishRun(result);
    } catch (...) {
      // A device that failed once fails here again. The first error, which follows, is the one to tell.
    }
    std::rethrow_exception(failure);
  }

  if (syncs) result.syncs = syncs->count();
  tellAll();
  if (late_fault) result.fault = late_fault;
  if (capture_) capture_->check();
  finishRun(result);
  signals_.throwIfAborted();
  if (result.reason == RunResult::Reason::Done && result.steps < options.steps) {
    result.reason = RunResult::Reason::Stopped;
  }
  result.seconds = secondsSince(start);
  return result;
}

// What a step that was not finite means for the run.
void StepLoop::finishRun(RunResult& result) {
  if (!result.fault) result.fault = guard_.lookAtWeights(signals_.steps);
  if (!result.fault) return;
  result.reason = RunResult::Reason::NotFinite;
  if (const NodeInspector* inspector = guard_.inspector()) result.finding = inspector->finding();
  const int64_t undone = guard_.takeBack(*result.fault, signals_.steps);
  result.steps -= undone;
  signals_.steps -= undone;
}

StepResult StepLoop::once(const Batch& batch, bool update) {
  const OptionalStreamScope stream(streamOf(stream_));
  signals_.throwIfAborted();
  const int64_t rows = batchSize(batch);
  const int64_t parts = std::min(options_.grad_accum, std::max<int64_t>(rows, 1));
  std::vector<std::vector<at::Tensor>> outputs;
  at::Tensor loss, norm;
  const auto attempt = [&] {
    step_.clearGradients();
    outputs.clear();
    loss = at::Tensor();
    for (int64_t i = 0; i < parts; ++i) {
      const Batch micro = partOf(batch, parts, i);
      // By their share of the rows, so that uneven parts add up to the mean over the batch.
      const double weight =
          parts == 1 ? 1 : static_cast<double>(batchSize(micro)) / static_cast<double>(rows);
      TrainStep::MicroResult result = micro_batches_.accumulate(micro, weight, i + 1 == parts, true);
      const at::Tensor share = result.loss * weight;
      loss = loss.defined() ? loss + share : share;
      outputs.push_back(std::move(result.outputs));
    }
    step_.reduce(loss);
    step_.unscaleGradients();
    // Without an update the gradients are what the caller is after: they stay as they are, and have a norm.
    norm = update ? step_.clipGradients() : step_.trained().gradientNorm();
  };
  guard_.beginAttempt(signals_.steps);
  const auto let_go = [&] { return capture_ && capture_->forget(); };
  micro_batches_.run(signals_.steps, attempt, let_go, nullptr);
  if (update) guard_.require(signals_.steps, loss, norm);
  StepResult result;
  std::vector<at::Tensor> whole = joined(outputs, rows);
  for (size_t k = 0; k < whole.size(); ++k) {
    result.outputs.emplace_back(step_.graph().outputs()[k].name, std::move(whole[k]));
  }
  result.lr = update ? finishStep() : schedule_.learningRate(signals_.steps);
  result.loss = loss.item<double>();
  if (norm.defined()) result.grad_norm = norm.item<double>();
  return result;
}

void StepLoop::useGraph(std::shared_ptr<const Graph> graph) {
  // A recording reads buffers that were made for its graph.
  if (step_.useGraph(std::move(graph)) && capture_) capture_->forget();
}

Finding StepLoop::diagnose(BatchSource& source) {
  return diagnoseStep(step_, micro_batches_, guard_.inspector(), source, signals_.steps, options_,
                      signals_.abort);
}

}  // namespace fornax
