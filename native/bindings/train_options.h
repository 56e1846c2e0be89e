// Reads the `TrainOptions` of the contract.
#pragma once

#include <napi.h>

#include "train/options.h"

namespace fornax::bindings {

// All of it but `loss`, which is a graph. ArgumentError naming the option.
TrainOptions readTrainOptions(Napi::Value value);

}  // namespace fornax::bindings
