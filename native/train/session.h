// A training session: one model in training on one device. It computes on a thread of its own; the functions
// here are called on the owner's thread (JavaScript's) and return at once, except where noted. One job (run
// or step) at a time: a second one, or looking at the state meanwhile, is a TrainError. Callbacks come on the
// session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "train/job_thread.h"
#include "train/memory_trial.h"
#include "train/micro_batches.h"
#include "train/nan_watch.h"
#include "train/node_inspector.h"
#include "train/options.h"
#include "train/step.h"
#include "train/step_capture.h"
#include "train/step_recorder.h"

namespace fornax {

struct RunOptions {
  int64_t steps = 0;
  double event_interval = 0.25;  // seconds
  OnHalved on_halved;            // after the events of all steps before it
};

struct RunResult {
  enum class Reason : uint8_t { Done, EpochEnd, Stopped, NotFinite };
  int64_t steps = 0;
  int64_t repeated = 0;  // of the steps: from a recording
  std::optional<int64_t> syncs;  // in the loop over the steps, where they were counted
  int64_t samples = 0;
  double seconds = 0;
  Reason reason = Reason::Done;
  std::optional<NonFinite> fault;   // NotFinite: the step that was not done; all is as before it
  std::optional<Finding> finding;  // where it began, if every node was looked at
};

struct StepResult {
  double loss = 0;
  double lr = 0;
  std::optional<double> grad_norm;  // before clipping; where clip_norm is set, or without an update
  NamedTensors outputs;
};

class TrainSession {
 public:
  // Waits until the model is on its device. Throws fornax::Error.
  TrainSession(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
               std::shared_ptr<const Graph> loss, const TrainOptions& options);
  ~TrainSession();

  using OnFailed = std::function<void(std::exception_ptr)>;
  // Takes micro-batches from the source until `steps` are done, the epoch ends or stop() is called. A group
  // of micro-batches that the epoch's end cuts short becomes a step of its own, averaged over what there is.
  void run(std::shared_ptr<const Graph> graph, std::shared_ptr<BatchSource> source, const RunOptions& options,
           std::function<void(StepsEvent)> on_event, std::function<void(RunResult)> on_done,
           OnFailed on_failed);
  // One step on `batch`, split into grad_accum micro-batches. Without `update` it stops after backward.
  void step(std::shared_ptr<const Graph> graph, Batch batch, bool update,
            std::function<void(StepResult)> on_done, OnFailed on_failed);

  // A step on `rows` rows of the batch that leaves no trace: memory_trial.h.
  void trial(std::shared_ptr<const Graph> graph, Batch batch, int64_t rows,
             std::function<void(MemoryTrial)> on_done, OnFailed on_failed);

  // Computes the next step's gradients from the source once more, looks at every node, and leaves no trace.
  void diagnose(std::shared_ptr<const Graph> graph, std::shared_ptr<BatchSource> source,
                std::function<void(Finding)> on_done, OnFailed on_failed);

  // Ends a run after the current step.
  void stop() { stop_ = true; }
  // Steps done; any thread.
  int64_t stepCount() const { return step_count_; }
  // Rows of a micro-batch at most; 0: batches stay whole. Any thread.
  int64_t microBatch() const { return micro_batches_->rows(); }
  double learningRate(int64_t step) const { return schedule_->learningRate(step); }
  // A metric of the model as it is now, for a schedule that looks at one. TrainError while a job is running.
  void observe(double metric);

  // These wait for the session's thread, and for the device. Copies on the CPU.
  NamedTensors gradients();
  NamedTensors snapshot();
  // Operators of the graph as it is run (prepare_graph.h), in their order, each with its module path.
  std::vector<std::pair<std::string, std::string>> operators();
  // The averaged weights by their names in the state dict. ArgumentError without `ema` or `swa`.
  NamedTensors ema();
  // Throws WeightsError if the entries are not those of snapshot(); then nothing has changed.
  void restore(const NamedTensors& entries, int64_t step);

  // Interrupts what is running (its on_failed gets AbortedError), ends the thread and frees everything. Waits
  // for the operator in progress. Idempotent; nothing else may be called afterwards.
  void shutDown();

 private:
  struct Group {
    at::Tensor loss;  // mean over the micro-batches; undefined if there was none
    int64_t micro_batches = 0;
    int64_t samples = 0;  // in all processes
    double wait_seconds = 0;
    bool repeated = false;  // from a recording: the update is done, too
    at::Tensor norm;        // of the gradients, where clipping had to know it
  };

  void claim();                      // TrainError if a job is running
  void refuseIfClosed(bool posted);  // AbortedError if the thread takes no jobs any more
  template <typename Function>
  auto exclusively(Function&& function);
  RunResult runLoop(BatchSource& source, const RunOptions& options,
                    const std::function<void(StepsEvent)>& on_event);
  bool stopAgreed();
  void makeCapture();
  bool takeBatch(BatchSource& source, std::vector<Batch>& taken);
  Group accumulateGroup(BatchSource& source, std::vector<Batch>& taken);
  bool repeatGroup(BatchSource& source, std::vector<Batch>& taken, Group& group);
  Group computeGradients(BatchSource& source, const OnHalved& on_halved);
  StepResult stepOnce(const Batch& batch, bool update);
  void makeWatch();
  Finding diagnoseStep(BatchSource& source);
  // Of gradients that are computed and not yet applied. The step is undone if something is found.
  std::optional<NonFinite> foundNonFinite(const at::Tensor& loss, at::Tensor norm, bool last);
  // Throws TrainError instead.
  void requireFinite(const at::Tensor& loss, const at::Tensor& norm);
  // At the end of a run: what the last step, not looked at in full, has left; and what the fault means for it.
  void finishWatch(RunResult& result);
  void undoStep();
  double finishStep(bool repeated = false);

  TrainOptions options_;
  std::unique_ptr<Schedule> schedule_;
  std::atomic<bool> stop_{false};   // after this step
  std::atomic<bool> abort_{false};  // now
  std::atomic<bool> busy_{false};
  std::atomic<int64_t> step_count_{0};
  std::unique_ptr<TrainStep> step_;  // touched on the session's thread only, until that has ended
  std::unique_ptr<MicroBatches> micro_batches_;  // likewise
  std::unique_ptr<StepCapture> capture_;         // likewise; null where steps are not recorded
  std::optional<c10::Stream> stream_;            // where steps are computed; unset: the default one
  double wait_seconds_ = 0;                      // for the source, in the step under way
  std::unique_ptr<NanWatch> watch_;              // null: nobody looks
  bool late_ = false;                            // what is not finite is noticed once losses arrive
  int64_t norm_seen_ = -1;                       // the last step whose gradients were looked at, 0-based
  std::unique_ptr<NodeInspector> anomaly_;      // null: only at steps that went wrong
  JobThread thread_;
};

}  // namespace fornax
