// Reads the `LoaderOptions` of the contract.
#pragma once

#include <napi.h>

#include "data/loader.h"

namespace fornax::bindings {

// ArgumentError naming the option.
LoaderOptions readLoaderOptions(Napi::Value value);

}  // namespace fornax::bindings
