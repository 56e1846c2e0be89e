#include "device/allocation_faults.h"

#include <atomic>
#include <mutex>

namespace fornax {

namespace {

// Read before the lock is taken: without a plan the question costs one load.
std::atomic<bool> planned{false};
std::mutex mutex;
AllocationFaults plan;
int64_t counted = 0;

}  // namespace

int64_t planAllocationFaults(const AllocationFaults& faults) {
  std::lock_guard lock(mutex);
  const int64_t before = counted;
  counted = 0;
  plan = faults;
  planned = true;  // for good: counting goes on
  return before;
}

bool allocationFails(size_t bytes) {
  if (!planned.load(std::memory_order_relaxed)) return false;
  std::lock_guard lock(mutex);
  if (bytes < plan.min_bytes) return false;
  const int64_t number = counted++;
  return plan.first >= 0 && number >= plan.first && number < plan.first + plan.count;
}

}  // namespace fornax
