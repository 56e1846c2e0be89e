// The steps of a training session, one after another: gradients, a look at them, the update, and what is to
// be told of it. Everything that a session computes with belongs to it. Lives on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "data/batch.h"
#include "device/own_stream.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "train/memory/micro_batches.h"
#include "train/nan/nan_guard.h"
#include "train/nan/node_inspector.h"
#include "train/optim/schedule.h"
#include "train/options.h"
#include "train/recording/step_capture.h"
#include "train/recording/step_recorder.h"
#include "train/session_signals.h"
#include "train/source_step.h"
#include "train/step.h"

namespace fornax {

struct RunOptions {
  int64_t steps = 0;
  double event_interval = 0.25;  // seconds
  OnHalved on_halved;            // after the events of all steps before it
};

struct RunResult {
  enum class Reason : uint8_t { Done, EpochEnd, Stopped, NotFinite };
  int64_t steps = 0;
  int64_t repeated = 0;          // of the steps: from a recording
  std::optional<int64_t> syncs;  // in the loop over the steps, where they were counted
  int64_t samples = 0;
  double seconds = 0;
  Reason reason = Reason::Done;
  std::optional<NonFinite> fault;  // NotFinite: the step that was not done; all is as before it
  std::optional<Finding> finding;  // where it began, if every node was looked at
};

struct StepResult {
  double loss = 0;
  double lr = 0;
  std::optional<double> grad_norm;  // before clipping; where clip_norm is set, or without an update
  NamedTensors outputs;
};

class StepLoop {
 public:
  // `schedule` and `signals` must outlive it. Throws fornax::Error.
  StepLoop(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
           std::shared_ptr<const Graph> loss, const TrainOptions& options, const Schedule& schedule,
           SessionSignals& signals);

  // TrainSession::run, step and diagnose, on the current device.
  RunResult run(BatchSource& source, const RunOptions& options,
                const std::function<void(StepsEvent)>& on_event);
  StepResult once(const Batch& batch, bool update);
  Finding diagnose(BatchSource& source);
  // As TrainStep::useGraph.
  void useGraph(std::shared_ptr<const Graph> graph);

  TrainStep& step() { return step_; }
  MicroBatches& microBatches() { return micro_batches_; }

 private:
  bool endAgreed(bool fault);
  double finishStep(bool repeated = false);
  void finishRun(RunResult& result);

  const TrainOptions options_;
  const Schedule& schedule_;
  SessionSignals& signals_;
  std::unique_ptr<OwnStream> stream_;  // where steps are computed; null: the default one. Given back last
  TrainStep step_;
  MicroBatches micro_batches_;
  std::unique_ptr<StepCapture> capture_;  // null where steps are not recorded
  NanGuard guard_;
  SourceStep source_step_;
};

}  // namespace fornax
