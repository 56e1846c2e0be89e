// What a resume needs beside the weights: optimizer state, scaler and generator, as named tensors on the CPU.
#pragma once

#include "train/step.h"

namespace fornax {

// Contiguous copies on the CPU.
NamedTensors copyToCpu(const NamedTensors& tensors);

NamedTensors takeSnapshot(TrainStep& step);

// The reverse. Throws WeightsError naming the first entry that is missing, unknown or of another shape or
// dtype; then nothing has changed.
void restoreSnapshot(TrainStep& step, const NamedTensors& entries);

}  // namespace fornax
