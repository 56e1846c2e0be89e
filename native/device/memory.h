// Memory figures of a device.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace fornax {

// Bytes: the most that was allocated on an accelerator so far; the resident set of the process on the CPU.
int64_t usedMemory(c10::Device device);

}  // namespace fornax
