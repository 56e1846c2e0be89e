// Memory of a device: figures, a budget, and letting go of what is kept for reuse.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>

namespace fornax {

// Bytes: the most that was allocated on an accelerator so far; the resident set of the process on the CPU.
int64_t usedMemory(c10::Device device);

struct MemoryFigures {
  int64_t allocated = 0;  // bytes in use by tensors
  int64_t peak = 0;       // most bytes in use by tensors since the last reset
  int64_t reserved = 0;   // bytes taken from the device or the system: in use, or kept for reuse
};
// Of this process on the device. Zeros on a CPU with libtorch's own allocator, which does not count.
MemoryFigures memoryFigures(c10::Device device);
void resetMemoryPeak(c10::Device device);

// Gives what is kept for reuse back to the device or the system.
void releaseCachedMemory(c10::Device device);

// The most this process may take on the device; an allocation beyond it fails as if memory had run out.
// Unset: no budget. ArgumentError where the allocator cannot be bounded, or the budget is more than the
// device has.
void setMemoryBudget(c10::Device device, std::optional<int64_t> bytes);

// In memory_cuda.cc for the CUDA variant.
void setCudaMemoryBudget(c10::Device device, std::optional<int64_t> bytes);

}  // namespace fornax
