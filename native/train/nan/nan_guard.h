// What a session does about numbers that are not finite: looks at each step before its update, or lets the
// device do so (nan_watch.h); takes back the step where something is found; shows every node to an inspector
// where that is asked for. Without `nan_watch` in the options it does nothing. Used on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "train/memory/micro_batches.h"
#include "train/nan/nan_watch.h"
#include "train/nan/node_inspector.h"
#include "train/options.h"
#include "train/recording/step_capture.h"
#include "train/step.h"

namespace fornax {

class NanGuard {
 public:
  // `step` and `micro_batches` must outlive it; so must `capture`, which may be null.
  NanGuard(TrainStep& step, MicroBatches& micro_batches, StepCapture* capture, const TrainOptions& options);

  // Null: only at steps that went wrong.
  NodeInspector* inspector() const { return inspector_.get(); }

  // Before a run, after `done` steps; what its events have to carry for inspect().
  void beginRun(int64_t done);
  std::vector<at::Tensor> counts() const;
  // Before an attempt to compute the step after `done` others.
  void beginAttempt(int64_t done);
  // On the device, where it is late: the step's update, and those after it, change nothing if one of the two
  // is not finite, and statistics of batch norm are put back. `norm` may be undefined.
  void raise(const at::Tensor& loss, at::Tensor norm);

  // Not late: the norm of the gradients, where that of the step after `done` others is to be looked at and is
  // not at hand. Takes memory, and so belongs to the attempt.
  at::Tensor normToLookAt(int64_t done, const at::Tensor& norm) const;

  // Looks at gradients that are computed and not yet applied, after `done` steps; `last` of a run: all of
  // them are looked at. The step is undone if something is found.
  std::optional<NonFinite> look(int64_t done, const at::Tensor& loss, at::Tensor norm, bool last);
  // Throws TrainError instead, and waits for the device also where it is late.
  void require(int64_t done, const at::Tensor& loss, const at::Tensor& norm);
  // Late: cuts an event down to the steps that were done, and says what was found.
  std::optional<NonFinite> inspect(StepsEvent& event);

  // At the end of a run, after `done` steps in all: what steps whose gradients were not looked at have left.
  std::optional<NonFinite> lookAtWeights(int64_t done) const;
  // Late: takes back the steps from the bad one on, whose updates the flag has made ineffective, and returns
  // how many of the `done` steps these are. 0 where the bad step is undone already, or has reached the
  // weights.
  int64_t takeBack(const NonFinite& fault, int64_t done);

 private:
  std::optional<NonFinite> lookNow(int64_t done, const at::Tensor& loss, at::Tensor norm, bool last);
  std::optional<NonFinite> nodeSeen(int64_t done, const at::Tensor& loss);
  void undoStep();

  TrainStep& step_;
  MicroBatches& micro_batches_;
  const std::shared_ptr<ProcessGroup> group_;
  std::unique_ptr<NanWatch> watch_;  // null: nobody looks
  std::unique_ptr<NodeInspector> inspector_;
  // What is not finite is noticed once losses arrive, some steps later, instead of before the update.
  bool late_ = false;
  bool unseen_ = false;  // updates were done since gradients were looked at last
  // Late: the generator before each step that no event has told of yet, from step `oldest_` (0-based) on.
  std::deque<at::Tensor> generators_;
  int64_t oldest_ = 0;
};

}  // namespace fornax
