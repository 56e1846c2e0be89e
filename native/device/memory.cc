#include "device/memory.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

namespace fornax {

namespace {

int64_t residentSet() {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/self/statm", "r"), &std::fclose);
  long long total = 0, resident = 0;
  if (!file || std::fscanf(file.get(), "%lld %lld", &total, &resident) != 2) return 0;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace

int64_t usedMemory(c10::Device device) {
  if (device.is_cpu()) return residentSet();
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

}  // namespace fornax
