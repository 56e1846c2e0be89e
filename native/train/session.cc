#include "train/session.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "device/compute_thread.h"
#include "device/cpu_allocator.h"
#include "device/process_settings.h"
#include "device/side_stream.h"
#include "device/sync_count.h"
#include "dist/process_group.h"
#include "train/snapshot.h"
#include "train/torch_errors.h"

namespace fornax {

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kScheduleState = "schedule/state";
constexpr const char* kMicroBatch = "memory/micro_batch";

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void checkOptions(const TrainOptions& options) {
  const auto require = [](bool condition, const char* option, const char* expected) {
    if (condition) return;
    throw Error(ErrorKind::Argument, std::string(option) + " must be " + expected,
                std::string("options.") + option);
  };
  require(options.grad_accum >= 1, "grad_accum", "at least 1");
  require(!options.clip_norm || *options.clip_norm > 0, "clip_norm", "greater than 0");
  require(!options.ema || !options.swa, "swa", "left out where there is `ema`");
  require(!options.clip_value || *options.clip_value > 0, "clip_value", "greater than 0");
  require(options.threads >= 0 && options.threads <= 1024, "threads", "between 1 and 1024");
}

void throwIfAborted(const std::atomic<bool>& abort) {
  if (abort)
    throw Error(ErrorKind::Aborted, "the training session was closed while it was working", "TrainSession");
}

}  // namespace

TrainSession::TrainSession(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
                           std::shared_ptr<const Graph> loss, const TrainOptions& options)
    : options_(options), schedule_(makeSchedule(options.schedule)), thread_("fornax-train") {
  checkOptions(options_);
  applyProcessSettings({options_.cudnn_benchmark, options_.tf32, options_.deterministic});
  thread_.call([&] {
    setUpComputeThread({options_.threads, options_.flush_denormal && options_.device.is_cpu()});
    const c10::OptionalDeviceGuard guard(options_.device.is_cpu() ? std::nullopt
                                                                  : std::optional(options_.device));
    inPhase("setting up the training session", [&] {
      step_ =
          std::make_unique<TrainStep>(std::move(graph), std::move(state), std::move(loss), options_, &abort_);
      micro_batches_ = std::make_unique<MicroBatches>(*step_, options_);
      if (const auto momentum = schedule_->momentum(0)) step_->setMomentum(*momentum);
      makeCapture();
      makeWatch();
    });
  });
}

void TrainSession::makeCapture() {
  const bool required = options_.cuda_graphs == CudaGraphs::On;
  if (options_.cuda_graphs == CudaGraphs::Off) return;
  if (!options_.device.is_cuda() && !options_.tape) {
    if (!required) return;
    throw Error(ErrorKind::Argument, "CUDA graphs need a CUDA device, and this is " + options_.device.str(),
                "train.cuda_graphs", "set cuda_graphs to auto or off");
  }
  const auto make = [this] { return makeRecording(options_.device, step_->generator()); };
  capture_ = std::make_unique<StepCapture>(*step_, options_.device, make, required);
  std::string obstacle = step_->recordingObstacle();
  if (obstacle.empty() && schedule_->momentum(0)) {
    obstacle = "the schedule moves the momentum, which the optimizer takes from the host";
  }
  if (!obstacle.empty()) {
    capture_->decline(obstacle);
    return;
  }
  step_->keepNumbersOnDevice();
  stream_ = sideStream(options_.device);
}

TrainSession::~TrainSession() {
  shutDown();
}

void TrainSession::shutDown() {
  stop_ = true;
  abort_ = true;
  // Or a process that waits for one that is gone would wait on.
  if (busy_ && options_.group) options_.group->interrupt();
  thread_.close();
  if (!step_) return;
  capture_.reset();
  micro_batches_.reset();
  step_.reset();
  releaseCpuCache();
}

void TrainSession::claim() {
  if (busy_.exchange(true)) {
    throw Error(ErrorKind::Train, "the training session is busy with a run or a step", "TrainSession",
                "await its promise first; stop() ends a run after the current step");
  }
}

void TrainSession::refuseIfClosed(bool posted) {
  if (posted) return;
  busy_ = false;
  throw Error(ErrorKind::Aborted, "the training session is closed", "TrainSession",
              "the process or the worker is ending");
}

// On the session's thread, while no job runs; waits for the result.
template <typename Function>
auto TrainSession::exclusively(Function&& function) {
  claim();
  struct Release {
    std::atomic<bool>& busy;
    ~Release() { busy = false; }
  } release{busy_};
  return thread_.call(std::forward<Function>(function));
}

void TrainSession::run(std::shared_ptr<const Graph> graph, std::shared_ptr<BatchSource> source,
                       const RunOptions& options, std::function<void(StepsEvent)> on_event,
                       std::function<void(RunResult)> on_done, OnFailed on_failed) {
  claim();
  stop_ = false;
  const bool posted = thread_.post([this, graph = std::move(graph), source = std::move(source), options,
                                    on_event = std::move(on_event), on_done = std::move(on_done),
                                    on_failed = std::move(on_failed)]() mutable {
    RunResult result;
    std::exception_ptr failure;
    try {
      step_->useGraph(std::move(graph));
      result = runLoop(*source, options, on_event);
    } catch (...) {
      failure = std::current_exception();
      step_->clearGradients();
      step_->give({});
    }
    source.reset();
    busy_ = false;
    failure ? on_failed(failure) : on_done(result);
  });
  refuseIfClosed(posted);
}

void TrainSession::step(std::shared_ptr<const Graph> graph, Batch batch, bool update,
                        std::function<void(StepResult)> on_done, OnFailed on_failed) {
  claim();
  const bool posted =
      thread_.post([this, graph = std::move(graph), batch = std::move(batch), update,
                    on_done = std::move(on_done), on_failed = std::move(on_failed)]() mutable {
        StepResult result;
        std::exception_ptr failure;
        try {
          step_->useGraph(std::move(graph));
          result = stepOnce(batch, update);
        } catch (...) {
          failure = std::current_exception();
          step_->clearGradients();
        }
        batch.fields.clear();
        busy_ = false;
        failure ? on_failed(failure) : on_done(std::move(result));
      });
  refuseIfClosed(posted);
}

void TrainSession::trial(std::shared_ptr<const Graph> graph, Batch batch, int64_t rows,
                         std::function<void(MemoryTrial)> on_done, OnFailed on_failed) {
  claim();
  const bool posted = thread_.post([this, graph = std::move(graph), batch = std::move(batch), rows,
                                    on_done = std::move(on_done),
                                    on_failed = std::move(on_failed)]() mutable {
    MemoryTrial result;
    std::exception_ptr failure;
    try {
      const c10::OptionalDeviceGuard guard(options_.device.is_cpu() ? std::nullopt
                                                                    : std::optional(options_.device));
      step_->useGraph(std::move(graph));
      result = runMemoryTrial(*step_, batch, rows, options_.device);
    } catch (...) {
      failure = std::current_exception();
      step_->clearGradients();
    }
    batch.fields.clear();
    busy_ = false;
    failure ? on_failed(failure) : on_done(result);
  });
  refuseIfClosed(posted);
}

// Asked once before every step. A stop that reaches one process stops all of them before the same step.
bool TrainSession::stopAgreed() {
  if (options_.group && options_.group->any(stop_)) stop_ = true;
  return stop_;
}

bool TrainSession::takeBatch(BatchSource& source, std::vector<Batch>& taken) {
  const auto before = Clock::now();
  Batch batch;
  // Once begun, a group is finished: only closing the session interrupts it.
  // Several processes begin it together or not at all: see stopAgreed().
  const bool may_stop = taken.empty() && !options_.group;
  const bool more = source.next(batch, may_stop ? stop_ : abort_);
  wait_seconds_ += secondsSince(before);
  throwIfAborted(abort_);
  if (more) taken.push_back(std::move(batch));
  return more;
}

// Gradients are cleared before a step, not after it, so that those of the last one can be read. `taken`: what an
// earlier attempt at this step took from the source; it is taken first, and what comes after it is added.
TrainSession::Group TrainSession::accumulateGroup(BatchSource& source, std::vector<Batch>& taken) {
  step_->clearGradients();
  Group group;
  const int64_t wanted = options_.grad_accum;
  while (group.micro_batches < wanted) {
    const auto place = static_cast<size_t>(group.micro_batches);
    if (place == taken.size() && !takeBatch(source, taken)) break;
    group.samples += step_->globalRows(taken[place]);
    const bool last = group.micro_batches + 1 == wanted;
    const at::Tensor loss =
        micro_batches_->accumulate(taken[place], 1.0 / static_cast<double>(wanted), last).loss;
    if (!micro_batches_->retries()) taken[place] = {};
    group.loss = group.loss.defined() ? group.loss + loss : loss;
    ++group.micro_batches;
  }
  if (group.micro_batches > 1) group.loss = group.loss / static_cast<double>(group.micro_batches);
  if (group.micro_batches > 0 && group.micro_batches < wanted) {
    step_->rescaleGradients(static_cast<double>(wanted) / static_cast<double>(group.micro_batches));
  }
  if (group.micro_batches > 0) step_->reduce(group.loss);
  return group;
}

// Does a whole step, its update included, from a recording. False if it has to be computed as usual; what was
// prepared for it is then used for that.
bool TrainSession::repeatGroup(BatchSource& source, std::vector<Batch>& taken, Group& group) {
  if (!capture_ || !capture_->declined().empty()) return false;
  const auto wanted = static_cast<size_t>(options_.grad_accum);
  while (taken.size() < wanted) {
    if (!takeBatch(source, taken)) return false;
  }
  std::vector<StepInputs> inputs = micro_batches_->prepare(taken);
  const auto loss = capture_->repeat(
      inputs, [&] { step_->beginUpdate(schedule_->learningRate(step_count_)); },
      [&] {
        std::vector<Batch> again = taken;
        const Group all = accumulateGroup(source, again);
        step_->unscaleGradients();
        const at::Tensor norm = step_->clipGradients();
        if (watch_) watch_->raise(all.loss, norm);
        step_->applyUpdate();
        return all.loss;
      });
  if (!loss) {
    step_->give(std::move(inputs));
    return false;
  }
  group = {*loss, options_.grad_accum, 0, 0, true, {}};
  for (const Batch& batch : taken) group.samples += step_->globalRows(batch);
  return true;
}

// The gradients of a step, ready for the optimizer; or the whole step, if it was repeated.
TrainSession::Group TrainSession::computeGradients(BatchSource& source, const OnHalved& on_halved) {
  Group group;
  std::vector<Batch> taken;
  wait_seconds_ = 0;
  micro_batches_->run(
      step_count_,
      [&] {
        if (anomaly_) anomaly_->reset();
        if (repeatGroup(source, taken, group)) return;
        group = accumulateGroup(source, taken);
        if (group.micro_batches == 0) return;
        step_->unscaleGradients();
        group.norm = step_->clipGradients();
        if (watch_ && late_) watch_->raise(group.loss, group.norm);
      },
      on_halved);
  group.wait_seconds = wait_seconds_;
  return group;
}

// Returns the rate it used.
double TrainSession::finishStep(bool repeated) {
  const double lr = schedule_->learningRate(step_count_);
  if (!repeated) {
    if (const auto momentum = schedule_->momentum(step_count_)) step_->setMomentum(*momentum);
    MicroBatches::inUpdate(step_count_, [&] { step_->update(lr); });
  }
  step_->average(++step_count_);
  return lr;
}

RunResult TrainSession::runLoop(BatchSource& source, const RunOptions& options,
                                const std::function<void(StepsEvent)>& on_event) {
  const c10::OptionalDeviceGuard guard(options_.device.is_cpu() ? std::nullopt
                                                                : std::optional(options_.device));
  const OptionalStreamScope stream(stream_);
  const auto start = Clock::now();
  auto interval_start = start;
  RunResult result;
  StepRecorder recorder(options_.device, step_->scaler());
  const auto emit = [&](bool wait) {
    while (auto event = recorder.take(wait)) {
      if (result.fault && late_) continue;  // steps that changed nothing
      if (watch_ && late_) result.fault = watch_->inspect(*event);
      on_event(std::move(*event));
    }
  };
  const auto closeInterval = [&] {
    recorder.close(secondsSince(interval_start));
    interval_start = Clock::now();
  };

  const OnHalved on_halved = [&](const Halving& halving) {
    if (!recorder.empty()) closeInterval();
    emit(true);  // in their order
    if (capture_) capture_->forget();  // it holds the memory of whole batches
    if (options.on_halved) options.on_halved(halving);
  };

  const auto syncs = options_.count_syncs ? countSyncs(options_.device) : nullptr;
  while (result.steps < options.steps && !result.fault && !stopAgreed()) {
    throwIfAborted(abort_);
    const Group group = computeGradients(source, on_halved);
    if (group.micro_batches == 0) {
      if (!stop_) result.reason = RunResult::Reason::EpochEnd;
      break;
    }
    const bool last = result.steps + 1 == options.steps || (!options_.group && stop_);
    result.fault = foundNonFinite(group.loss, group.norm, last);
    if (result.fault) break;
    const double lr = finishStep(group.repeated);
    ++result.steps;
    result.repeated += group.repeated ? 1 : 0;
    result.samples += group.samples;
    if (capture_) recorder.decline(capture_->news());
    recorder.record(step_count_, group.loss, lr, group.samples, group.wait_seconds, group.repeated);
    if (secondsSince(interval_start) >= options.event_interval) {
      emit(false);
      closeInterval();
      if (options_.device.is_cpu()) emit(false);
    }
    if (group.micro_batches < options_.grad_accum && result.steps < options.steps) {
      result.reason = RunResult::Reason::EpochEnd;
      break;
    }
  }

  if (syncs) result.syncs = syncs->count();
  if (!recorder.empty()) closeInterval();
  emit(true);
  if (capture_) capture_->check();
  finishWatch(result);
  throwIfAborted(abort_);
  if (result.reason == RunResult::Reason::Done && result.steps < options.steps) {
    result.reason = RunResult::Reason::Stopped;
  }
  result.seconds = secondsSince(start);
  return result;
}

StepResult TrainSession::stepOnce(const Batch& batch, bool update) {
  const c10::OptionalDeviceGuard guard(options_.device.is_cpu() ? std::nullopt
                                                                : std::optional(options_.device));
  const OptionalStreamScope stream(stream_);
  throwIfAborted(abort_);
  const int64_t rows = batchSize(batch);
  const int64_t parts = std::min(options_.grad_accum, std::max<int64_t>(rows, 1));
  std::vector<std::vector<at::Tensor>> outputs;
  at::Tensor loss, norm;
  const auto attempt = [&] {
    step_->clearGradients();
    outputs.assign(step_->graph().outputs().size(), {});
    loss = at::Tensor();
    for (int64_t i = 0; i < parts; ++i) {
      const Batch micro = partOf(batch, parts, i);
      // By their share of the rows, so that uneven parts add up to the mean over the batch.
      const double weight =
          parts == 1 ? 1 : static_cast<double>(batchSize(micro)) / static_cast<double>(rows);
      TrainStep::MicroResult result = micro_batches_->accumulate(micro, weight, i + 1 == parts, true);
      const at::Tensor share = result.loss * weight;
      loss = loss.defined() ? loss + share : share;
      for (size_t k = 0; k < outputs.size(); ++k) outputs[k].push_back(std::move(result.outputs[k]));
    }
    step_->reduce(loss);
    step_->unscaleGradients();
    // Without an update the gradients are what the caller is after: they stay as they are, and have a norm.
    norm = update ? step_->clipGradients() : step_->gradientNorm();
  };
  if (anomaly_) anomaly_->reset();
  micro_batches_->run(step_count_, attempt, nullptr);
  if (update) requireFinite(loss, norm);
  StepResult result;
  result.lr = update ? finishStep() : schedule_->learningRate(step_count_);
  for (size_t k = 0; k < outputs.size(); ++k) {
    result.outputs.emplace_back(step_->graph().outputs()[k].name,
                                parts == 1 ? outputs[k][0] : at::cat(outputs[k]));
  }
  result.loss = loss.item<double>();
  if (norm.defined()) result.grad_norm = norm.item<double>();
  return result;
}

NamedTensors TrainSession::gradients() {
  return exclusively([&] { return copyToCpu(step_->gradients()); });
}

NamedTensors TrainSession::ema() {
  return exclusively([&] {
    const NamedTensors averages = step_->averages();
    if (averages.empty()) {
      throw Error(ErrorKind::Argument, "the session keeps no average of the weights", "ema");
    }
    return copyToCpu(averages);
  });
}

std::vector<std::pair<std::string, std::string>> TrainSession::operators() {
  return exclusively([&] {
    std::vector<std::pair<std::string, std::string>> operators;
    for (const Node& node : step_->graph().nodes()) operators.emplace_back(node.name, node.path);
    return operators;
  });
}

NamedTensors TrainSession::snapshot() {
  return exclusively([&] {
    NamedTensors entries = takeSnapshot(*step_);
    const std::vector<double> state = schedule_->state();
    if (!state.empty()) entries.emplace_back(kScheduleState, at::tensor(state, at::kDouble));
    // Only where a step ran out of memory: what is computed depends on it.
    if (micro_batches_->rows() != options_.micro_batch) {
      entries.emplace_back(kMicroBatch, at::scalar_tensor(micro_batches_->rows(), at::kLong));
    }
    return entries;
  });
}

void TrainSession::observe(double metric) {
  exclusively([&] { schedule_->observe(metric); });
}

void TrainSession::restore(const NamedTensors& entries, int64_t step) {
  if (step < 0) throw Error(ErrorKind::Argument, "step must be at least 0", "step");
  exclusively([&] {
    NamedTensors of_step;
    at::Tensor of_schedule;
    int64_t micro_batch = options_.micro_batch;
    for (const auto& entry : entries) {
      if (entry.first == kScheduleState)
        of_schedule = entry.second.to(at::kCPU).contiguous();
      else if (entry.first == kMicroBatch)
        micro_batch = entry.second.item<int64_t>();
      else
        of_step.push_back(entry);
    }
    const auto wanted = static_cast<int64_t>(schedule_->state().size());
    const int64_t given = of_schedule.defined() ? of_schedule.numel() : 0;
    if (wanted != given || (given > 0 && of_schedule.scalar_type() != at::kDouble)) {
      throw Error(ErrorKind::Weights, std::string("`") + kScheduleState + "` does not fit the schedule",
                  "snapshot", "restore a snapshot of a session with the same schedule");
    }
    restoreSnapshot(*step_, of_step);
    micro_batches_->setRows(micro_batch);
    if (given == 0) return;
    const double* values = of_schedule.const_data_ptr<double>();
    schedule_->restore({values, values + given});
  });
  step_count_ = step;
}

}  // namespace fornax
