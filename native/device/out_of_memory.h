// Memory that ran out, told apart from everything else that can go wrong: a training step can be tried again
// in smaller parts.
#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <utility>

#include "core/error.h"

namespace fornax {

// A DeviceError for JavaScript. `module` is the path of the module that was running, or empty.
class OutOfMemoryError : public Error {
 public:
  OutOfMemoryError(const std::string& what, std::string where, std::string fix, std::string module = "")
      : Error(ErrorKind::Device, "out of memory: " + what, std::move(where), std::move(fix)),
        module(std::move(module)) {}

  std::string module;
};

// Whether libtorch's error says that an allocation failed: of its own allocators, or of cuBLAS, cuDNN and the
// driver.
bool isOutOfMemory(const c10::Error& error);

}  // namespace fornax
