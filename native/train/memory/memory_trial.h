// A step that leaves no trace, to see how much memory it takes: forward, loss and backward on a batch of a
// given size, after which batch-norm statistics and generator are put back and the gradients freed. Weights
// and optimizer are not touched. Used on the session's thread.
#pragma once

#include <cstdint>
#include <string>

#include "data/batch.h"
#include "train/step.h"

namespace fornax {

// The first `rows` rows of a batch, which is repeated if it has fewer. Ragged fields as in partOf().
Batch rowsOf(const Batch& batch, int64_t rows);

// Bytes.
struct MemoryTrial {
  bool fits = false;
  std::string what, where;  // of the allocation that failed
  int64_t weights = 0;      // parameters and buffers
  int64_t optimizer = 0;    // its state, and the scaler's
  int64_t average = 0;      // of the weights
  int64_t gradients = 0;
  int64_t activations = 0;  // inputs, and what forward keeps for backward
  int64_t workspace = 0;    // what the peak holds beside all these
  int64_t peak = 0;         // of all tensors of this process on the device
};

// Memory that runs out is a result, and so is a row too few for batch norm; other errors are thrown. Without
// rows nothing is computed, and only the parts that do not depend on the batch are known.
MemoryTrial runMemoryTrial(TrainStep& step, const Batch& batch, int64_t rows, c10::Device device);

}  // namespace fornax
