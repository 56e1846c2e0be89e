#include "device/memory.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "core/error.h"
#include "device/cpu_allocator.h"
#include "device/recording_mutex.h"

namespace fornax {

namespace {

int64_t residentSet() {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/self/statm", "r"), &std::fclose);
  long long total = 0, resident = 0;
  if (!file || std::fscanf(file.get(), "%lld %lld", &total, &resident) != 2) return 0;
  return resident * sysconf(_SC_PAGESIZE);
}

constexpr auto kAggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

}  // namespace

int64_t usedMemory(c10::Device device) {
  return device.is_cpu() ? residentSet() : memoryFigures(device).peak;
}

MemoryFigures memoryFigures(c10::Device device) {
  if (device.is_cpu()) {
    const CpuMemory memory = cpuMemory();
    return {memory.allocated, memory.peak, memory.allocated + memory.cached};
  }
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  const auto& allocated = stats.allocated_bytes[kAggregate];
  return {allocated.current, allocated.peak, stats.reserved_bytes[kAggregate].current};
}

void resetMemoryPeak(c10::Device device) {
  if (device.is_cpu()) {
    resetCpuMemoryPeak();
  } else {
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  }
}

void releaseCachedMemory(c10::Device device) {
  if (device.is_cpu()) {
    releaseCpuCache();
  } else {
    std::lock_guard lock(recordingMutex());
    c10::getDeviceAllocator(device.type())->emptyCache();
  }
}

void setMemoryBudget(c10::Device device, std::optional<int64_t> bytes) {
  if (bytes && *bytes < 1)
    throw Error(ErrorKind::Argument, "a memory budget must be at least 1 byte", "budget");
  if (!device.is_cpu()) return setCudaMemoryBudget(device, bytes);
  if (bytes && std::string(cpuAllocatorName()) == "system") {
    throw Error(ErrorKind::Argument, "libtorch's own CPU allocator cannot be held to a memory budget",
                "budget", "unset FORNAX_CPU_ALLOCATOR, or leave the budget out");
  }
  setCpuMemoryBudget(bytes);
}

#ifndef FORNAX_CUDA
void setCudaMemoryBudget(c10::Device, std::optional<int64_t>) {
  throw Error(ErrorKind::Device, "the addon is the CPU variant", "budget");
}
#endif

}  // namespace fornax
