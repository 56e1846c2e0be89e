// For tests: allocations of the CPU allocator that fail on demand, so that what happens when memory runs out
// can be tried at every single one of them. Process-wide; off unless a test asks for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fornax {

struct AllocationFaults {
  int64_t first = -1;    // number of the first allocation to fail, counted from 0; -1: none
  int64_t count = 1;     // how many fail, from there on
  size_t min_bytes = 0;  // smaller ones succeed and are not counted
};

// Replaces the plan and starts counting anew. Returns how many allocations the one before has counted.
int64_t planAllocationFaults(const AllocationFaults& faults);

// Asked by the allocator before each allocation; counts it.
bool allocationFails(size_t bytes);

}  // namespace fornax
