// Memory that ran out, told apart from everything else that can go wrong: a training step can be tried again
// in smaller parts.
#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <optional>
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

// An allocation that failed: what was said, where, and in which module (may be empty).
struct AllocationFailure {
  std::string what, where, module;
};

// Runs `work`; what failed, if memory ran out in it. Other errors pass. The exception is gone on return, and
// with it all that `work` held.
std::optional<AllocationFailure> allocationFailure(const std::function<void()>& work);

}  // namespace fornax
