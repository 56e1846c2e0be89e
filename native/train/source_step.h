// One step on what a source delivers: takes its micro-batches, adds up their gradients, and makes them ready
// for the optimizer; or repeats a recorded step whole. Used on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/batch.h"
#include "train/memory/micro_batches.h"
#include "train/nan/nan_guard.h"
#include "train/optim/schedule.h"
#include "train/options.h"
#include "train/recording/step_capture.h"
#include "train/session_signals.h"
#include "train/step.h"

namespace fornax {

class SourceStep {
 public:
  struct Result {
    at::Tensor loss;            // mean over the rows; undefined if there were none
    int64_t micro_batches = 0;  // fewer than grad_accum where the epoch has ended
    int64_t samples = 0;        // in all processes
    double wait_seconds = 0;    // for the source
    bool repeated = false;      // from a recording: the update is done, too
    at::Tensor norm;            // of the gradients, where clipping had to know it
  };

  // All of them must outlive it. `capture` may be null.
  SourceStep(TrainStep& step, MicroBatches& micro_batches, StepCapture* capture, NanGuard& guard,
             const Schedule& schedule, const TrainOptions& options, const SessionSignals& signals)
      : step_(step),
        micro_batches_(micro_batches),
        capture_(capture),
        guard_(guard),
        schedule_(schedule),
        options_(options),
        signals_(signals) {}

  // The next one. AbortedError, OutOfMemoryError (micro_batches.h), and what the source throws.
  Result compute(BatchSource& source, const OnHalved& on_halved);

 private:
  bool take(BatchSource& source, std::vector<Batch>& taken);
  Result accumulate(BatchSource& source, std::vector<Batch>& taken);
  bool repeat(BatchSource& source, std::vector<Batch>& taken, Result& result);

  TrainStep& step_;
  MicroBatches& micro_batches_;
  StepCapture* const capture_;
  NanGuard& guard_;
  const Schedule& schedule_;
  const TrainOptions& options_;
  const SessionSignals& signals_;
  double wait_seconds_ = 0;
  int64_t short_of_memory_ = 0;  // times that memory ran out before a step could be repeated
};

}  // namespace fornax
