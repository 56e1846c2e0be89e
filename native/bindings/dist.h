// The `ProcessGroup` class of the contract.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "dist/process_group.h"

namespace fornax::bindings {

// ArgumentError if it is none; DisposedError.
std::shared_ptr<ProcessGroup> unwrapProcessGroup(Napi::Value value, const std::string& what);

}  // namespace fornax::bindings
