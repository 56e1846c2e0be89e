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
#include <string>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "train/job_thread.h"
#include "train/memory/memory_trial.h"
#include "train/optim/schedule.h"
#include "train/options.h"
#include "train/session_signals.h"
#include "train/snapshot.h"
#include "train/step_loop.h"

namespace fornax {

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
  void stop() { signals_.stop = true; }
  // Steps done; any thread.
  int64_t stepCount() const { return signals_.steps; }
  // Rows of a micro-batch at most; 0: batches stay whole. Still there after shutDown(), which a handle can
  // outlive.
  int64_t microBatch() const { return loop_ ? loop_->microBatches().rows() : options_.micro_batch; }
  double learningRate(int64_t step) const { return schedule_->learningRate(step); }
  // A metric of the model as it is now, for a schedule that looks at one. TrainError while a job is running.
  void observe(double metric);

  // These wait for the session's thread, and for the device. Copies on the CPU.
  NamedTensors gradients();
  NamedTensors snapshot(bool share = false);
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
  void claim();  // TrainError if a job is running
  // Runs `job` on the session's thread with the loop set to `graph`, after claim(). What it works on is gone
  // before the owner hears of it, and with a failure the gradients. AbortedError if the thread takes no jobs
  // any more.
  template <typename Result, typename Material>
  void start(std::shared_ptr<const Graph> graph, Material material, std::function<Result(Material&)> job,
             std::function<void(Result)> on_done, OnFailed on_failed);
  // There, while no job runs; waits for the result.
  template <typename Function>
  auto exclusively(Function&& function);
  SnapshotParts snapshotParts();

  TrainOptions options_;
  std::unique_ptr<Schedule> schedule_;
  SessionSignals signals_;
  std::atomic<bool> busy_{false};
  std::unique_ptr<StepLoop> loop_;  // touched on the session's thread only, until that has ended
  JobThread thread_;
};

}  // namespace fornax
