// Turns what libtorch throws outside the executor (which names nodes itself) into Fornax's errors.
#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace fornax {

// DeviceError if memory ran out, ExecutionError otherwise; `phase` says what was going on.
[[noreturn]] void throwTorchError(const char* phase, const c10::Error& error);

// Runs `function` and translates libtorch's exceptions.
template <typename Function>
void inPhase(const char* phase, Function&& function) {
  try {
    function();
  } catch (const c10::Error& error) {
    throwTorchError(phase, error);
  }
}

}  // namespace fornax
