// The `normalize` option of sessions and loaders.
#pragma once

#include <napi.h>

#include <optional>
#include <string>

#include "train/options.h"

namespace fornax::bindings {

// Undefined or null: no normalisation. ArgumentError if mean and std do not belong together.
std::optional<Normalize> readNormalize(Napi::Value value, const std::string& what);

}  // namespace fornax::bindings
