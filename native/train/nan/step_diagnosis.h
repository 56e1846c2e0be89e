// Computes the gradients of a step once more, with a look at every node, and leaves no trace. For a step that
// went wrong. Used on the session's thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "data/batch.h"
#include "train/memory/micro_batches.h"
#include "train/nan/node_inspector.h"
#include "train/options.h"
#include "train/step.h"

namespace fornax {

// Of step `index` (0-based), whose batches are the next ones of the source. `inspector` is what the step
// shows its nodes to otherwise; may be null. `abort` ends it early. Where memory runs out, it is what was
// found until then.
Finding diagnoseStep(TrainStep& step, MicroBatches& micro_batches, NodeInspector* inspector,
                     BatchSource& source, int64_t index, const TrainOptions& options,
                     const std::atomic<bool>& abort);

}  // namespace fornax
