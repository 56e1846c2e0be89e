// What a resume needs beside the weights: optimizer state, scaler, generator, the state of a schedule that
// has one, and the micro-batch where memory ran out, as named tensors on the CPU.
#pragma once

#include <cstdint>

#include "train/memory/micro_batches.h"
#include "train/optim/schedule.h"
#include "train/step.h"

namespace fornax {

// Contiguous copies on the CPU. With `share` what is there in this form already is not copied.
NamedTensors copyToCpu(const NamedTensors& tensors, bool share = false);

// Of these parts of a session that was opened with `micro_batch` rows at most (0: whole batches).
struct SnapshotParts {
  TrainStep& step;
  Schedule& schedule;
  MicroBatches& micro_batches;
  int64_t micro_batch;
};

// With `share` it changes with the next step, and takes no memory of its own where the session is on the
// CPU.
NamedTensors takeSnapshot(const SnapshotParts& parts, bool share = false);

// The reverse. Throws WeightsError naming the first entry that is missing, unknown or of another shape or
// dtype; then nothing has changed.
void restoreSnapshot(const SnapshotParts& parts, const NamedTensors& entries);

}  // namespace fornax
