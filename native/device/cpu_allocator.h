// A caching CPU allocator for libtorch. glibc returns the big tensors of every training step to the kernel
// and faults them in again, page by page, in the next one (tens of thousands of faults a step). This
// allocator keeps freed blocks in size classes, up to a bound, and hands them out again. Process-wide and
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace fornax {

// Makes it libtorch's CPU allocator; later calls do nothing. FORNAX_CPU_ALLOCATOR=system leaves libtorch's
// own.
void installCpuAllocator();

// `fornax-caching` or `system`.
const char* cpuAllocatorName();

struct CpuMemory {
  int64_t allocated;  // bytes in use by tensors
  int64_t peak;       // most bytes in use so far, since the last reset
  int64_t cached;     // bytes kept for reuse
  int64_t limit;      // bound on `cached`
};
CpuMemory cpuMemory();
void resetCpuMemoryPeak();

// Most bytes in use and cached together. An allocation beyond it gives cached blocks back to the system first
// and then fails (c10::OutOfMemoryError), instead of driving the machine into its swap. Unset: no budget.
// Does nothing with libtorch's own allocator.
void setCpuMemoryBudget(std::optional<int64_t> bytes);

// Gives all cached blocks back to the system (a session that ends calls it).
void releaseCpuCache();

}  // namespace fornax
