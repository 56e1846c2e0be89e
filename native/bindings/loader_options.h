// Reads the `LoaderOptions` of the contract.
#pragma once

#include <napi.h>

#include <memory>

#include "data/epoch_source.h"

namespace fornax::bindings {

// A Loader over the shards of a pack, or a TensorLoader where there are `fields`. ArgumentError naming the
// option, and what their constructors throw.
std::unique_ptr<EpochSource> makeLoader(Napi::Value value);

}  // namespace fornax::bindings
