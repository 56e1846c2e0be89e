// Reads the `FileTensor`s of the contract.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "io/read_tensors.h"

namespace fornax::bindings {

// ArgumentError naming the entry where one is not of the right form.
std::vector<TensorRange> readRanges(Napi::Value value, const std::string& what);

}  // namespace fornax::bindings
