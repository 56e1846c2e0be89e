#include "train/session.h"

#include <c10/core/DeviceGuard.h>

#include <optional>

#include "core/error.h"
#include "device/compute_thread.h"
#include "device/cpu_allocator.h"
#include "device/process_settings.h"
#include "dist/process_group.h"
#include "train/torch_errors.h"

namespace fornax {

namespace {

std::optional<c10::Device> guarded(c10::Device device) {
  return device.is_cpu() ? std::nullopt : std::optional(device);
}

}  // namespace

TrainSession::TrainSession(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
                           std::shared_ptr<const Graph> loss, const TrainOptions& options)
    : options_(options), schedule_(makeSchedule(options.schedule)), thread_("fornax-train") {
  checkTrainOptions(options_);
  thread_.call([&] {
    setUpComputeThread({options_.threads, options_.flush_denormal && options_.device.is_cpu()});
    const c10::OptionalDeviceGuard guard(guarded(options_.device));
    inPhase("setting up the training session", [&] {
      loop_ = std::make_unique<StepLoop>(std::move(graph), std::move(state), std::move(loss), options_,
                                         *schedule_, signals_);
    });
  });
  // Last: a session that fails to open leaves no mark on the process.
  applyProcessSettings({options_.cudnn_benchmark, options_.tf32, options_.deterministic});
}

TrainSession::~TrainSession() {
  shutDown();
}

void TrainSession::shutDown() {
  signals_.stop = true;
  signals_.abort = true;
  // The session's thread may be waiting for a process that is gone: close() would wait for it forever.
  if (busy_ && options_.group) options_.group->interrupt();
  thread_.close();
  if (!loop_) return;
  loop_.reset();
  releaseCpuCache();
}

void TrainSession::claim() {
  if (busy_.exchange(true)) {
    throw Error(ErrorKind::Train, "the training session is busy with a run or a step", "TrainSession",
                "await its promise first; stop() ends a run after the current step");
  }
}

template <typename Result, typename Material>
void TrainSession::start(std::shared_ptr<const Graph> graph, Material material,
                         std::function<Result(Material&)> job, std::function<void(Result)> on_done,
                         OnFailed on_failed) {
  const bool posted =
      thread_.post([this, graph = std::move(graph), material = std::move(material), job = std::move(job),
                    on_done = std::move(on_done), on_failed = std::move(on_failed)]() mutable {
        Result result;
        std::exception_ptr failure;
        try {
          const c10::OptionalDeviceGuard guard(guarded(options_.device));
          loop_->useGraph(std::move(graph));
          result = job(material);
        } catch (...) {
          failure = std::current_exception();
          loop_->step().clearGradients();
          loop_->step().give({});
        }
        material = {};
        busy_ = false;
        failure ? on_failed(failure) : on_done(std::move(result));
      });
  if (posted) return;
  busy_ = false;
  throw Error(ErrorKind::Aborted, "the training session is closed", "TrainSession",
              "the process or the worker is ending");
}

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
  signals_.stop = false;
  using Source = std::shared_ptr<BatchSource>;
  start<RunResult, Source>(
      std::move(graph), std::move(source),
      [this, options, on_event = std::move(on_event)](Source& batches) {
        return loop_->run(*batches, options, on_event);
      },
      std::move(on_done), std::move(on_failed));
}

void TrainSession::step(std::shared_ptr<const Graph> graph, Batch batch, bool update,
                        std::function<void(StepResult)> on_done, OnFailed on_failed) {
  claim();
  start<StepResult, Batch>(
      std::move(graph), std::move(batch), [this, update](Batch& given) { return loop_->once(given, update); },
      std::move(on_done), std::move(on_failed));
}

void TrainSession::trial(std::shared_ptr<const Graph> graph, Batch batch, int64_t rows,
                         std::function<void(MemoryTrial)> on_done, OnFailed on_failed) {
  claim();
  start<MemoryTrial, Batch>(
      std::move(graph), std::move(batch),
      [this, rows](Batch& given) { return runMemoryTrial(loop_->step(), given, rows, options_.device); },
      std::move(on_done), std::move(on_failed));
}

void TrainSession::diagnose(std::shared_ptr<const Graph> graph, std::shared_ptr<BatchSource> source,
                            std::function<void(Finding)> on_done, OnFailed on_failed) {
  claim();
  using Source = std::shared_ptr<BatchSource>;
  start<Finding, Source>(
      std::move(graph), std::move(source), [this](Source& batches) { return loop_->diagnose(*batches); },
      std::move(on_done), std::move(on_failed));
}

NamedTensors TrainSession::gradients() {
  return exclusively([&] { return copyToCpu(loop_->step().trained().namedGradients()); });
}

NamedTensors TrainSession::ema() {
  return exclusively([&] {
    const NamedTensors averages = loop_->step().averages();
    if (averages.empty()) {
      throw Error(ErrorKind::Argument, "the session keeps no average of the weights", "ema");
    }
    return copyToCpu(averages);
  });
}

std::vector<std::pair<std::string, std::string>> TrainSession::operators() {
  return exclusively([&] {
    std::vector<std::pair<std::string, std::string>> operators;
    for (const Node& node : loop_->step().graph().nodes()) operators.emplace_back(node.name, node.path);
    return operators;
  });
}

SnapshotParts TrainSession::snapshotParts() {
  return {loop_->step(), *schedule_, loop_->microBatches(), options_.micro_batch};
}

NamedTensors TrainSession::snapshot(bool share) {
  return exclusively([&] { return takeSnapshot(snapshotParts(), share); });
}

void TrainSession::restore(const NamedTensors& entries, int64_t step) {
  if (step < 0) throw Error(ErrorKind::Argument, "step must be at least 0", "step");
  exclusively([&] { restoreSnapshot(snapshotParts(), entries); });
  signals_.steps = step;
}

void TrainSession::observe(double metric) {
  exclusively([&] { schedule_->observe(metric); });
}

}  // namespace fornax
