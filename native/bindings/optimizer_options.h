// Reads the `optimizer` option of a training session.
#pragma once

#include "bindings/options.h"
#include "train/optim/optimizer.h"

namespace fornax::bindings {

// ArgumentError naming what is wrong; ranges are checked when the optimizer is made.
OptimizerOptions readOptimizer(const Options& source);

}  // namespace fornax::bindings
