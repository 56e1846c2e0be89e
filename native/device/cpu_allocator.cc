#include "device/cpu_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>
#include <string>

#include "device/allocation_faults.h"

namespace fornax {

namespace {

constexpr size_t kAlignment = 64;  // a cache line and the widest vector register; what libtorch's own gives
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSmall = 1024;  // below: classes of 64 bytes
constexpr int kSteps = 8;        // above: this many classes per power of two, so at most 1/8 is wasted
constexpr int kSmallClasses = static_cast<int>(kSmall / kAlignment) + 1;
constexpr int kClasses = kSmallClasses + kSteps * 40;

// Precedes the bytes handed out. While a block is cached it is a member of two lists: of its class (newest
// first, so that what is reused is still warm) and of all cached blocks by age (so that the oldest is given
// up first).
struct alignas(kAlignment) Block {
  size_t bytes;  // all of it, this header included
  int size_class;
  Block *newer_in_class, *older_in_class;
  Block *newer, *older;

  void* data() { return this + 1; }
  static Block* of(void* data) { return static_cast<Block*>(data) - 1; }
};
static_assert(sizeof(Block) == kAlignment);

struct SizeClass {
  int index;
  size_t bytes;
};

SizeClass classOf(size_t bytes) {
  if (bytes <= kSmall) {
    const size_t units = (bytes + kAlignment - 1) / kAlignment;
    return {static_cast<int>(units), units * kAlignment};
  }
  const int power = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^power < bytes <= 2^(power + 1)
  const size_t base = size_t{1} << power;
  const size_t step = base / kSteps;
  const size_t steps = (bytes - base + step - 1) / step;  // 1 … kSteps
  const int index = kSmallClasses + (power - 10) * kSteps + static_cast<int>(steps) - 1;
  return {index, base + steps * step};
}

// Memory this process may use: the machine's or its control group's.
size_t memoryLimit() {
  size_t limit = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    unsigned long long bytes = 0;  // stays 0 for "max"
    if (file >> bytes && bytes > 0) limit = std::min<size_t>(limit, bytes);
  }
  return limit;
}

size_t cacheLimit() {
  if (const char* mib = std::getenv("FORNAX_CPU_CACHE_MIB")) {
    char* end = nullptr;
    const unsigned long long value = std::strtoull(mib, &end, 10);
    if (end != mib && *end == '\0' && value < (1ull << 40)) return static_cast<size_t>(value) << 20;
  }
  return memoryLimit() / 2;
}

class CachingCpuAllocator final : public c10::Allocator {
 public:
  CachingCpuAllocator() : cache_limit_(cacheLimit()) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes == 0 ? nullptr : take(bytes)->data();
    return {data, data, &giveBack, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &giveBack; }

  void copy_data(void* destination, const void* source, size_t bytes) const override {
    default_copy_data(destination, source, bytes);
  }

  void release() {
    std::lock_guard lock(mutex_);
    while (oldest_) evictOldest();
  }

  // glibc keeps what is freed below its threshold for mappings, which grows to 32 MiB with what is freed.
  void releaseToSystem() {
    release();
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
  }

  CpuMemory memory() {
    std::lock_guard lock(mutex_);
    return {static_cast<int64_t>(allocated_), static_cast<int64_t>(peak_), static_cast<int64_t>(cached_),
            static_cast<int64_t>(cache_limit_)};
  }

  void setBudget(size_t bytes) {
    std::lock_guard lock(mutex_);
    budget_ = bytes;
    while (oldest_ && allocated_ + cached_ > budget_) evictOldest();
  }

  void resetPeak() {
    std::lock_guard lock(mutex_);
    peak_ = allocated_;
  }

 private:
  static void giveBack(void* data);

  Block* take(size_t bytes) {
    TORCH_CHECK(bytes < (size_t{1} << 48), "CPU allocator: a tensor of ", bytes,
                " bytes cannot be allocated");
    const SizeClass wanted = classOf(bytes + sizeof(Block));
    TORCH_CHECK_WITH(OutOfMemoryError, !allocationFails(bytes), "CPU allocator: not enough memory for ",
                     bytes, " bytes (a failure that a test has asked for)");
    std::unique_lock lock(mutex_);
    Block* block = classes_[wanted.index];
    if (block) {
      unlink(block);
      allocated_ += wanted.bytes;
    } else {
      makeRoom(wanted.bytes);
      allocated_ +=
          wanted.bytes;  // before the lock is let go: two threads cannot both take the last of a budget
      lock.unlock();
      block = fromSystem(wanted);
      lock.lock();
    }
    peak_ = std::max(peak_, allocated_);
    return block;
  }

  // What is cached counts against the budget, too, and goes first. Under the lock.
  void makeRoom(size_t bytes) {
    TORCH_CHECK_WITH(OutOfMemoryError, allocated_ + bytes <= budget_, "CPU allocator: not enough memory for ",
                     bytes, " bytes: the budget is ", budget_, " bytes, of which ", allocated_,
                     " are in use");
    while (oldest_ && allocated_ + cached_ + bytes > budget_) evictOldest();
  }

  static void* mapped(size_t bytes) {
#if defined(MADV_HUGEPAGE)
    // A pass over a tensor of 28 MB misses the TLB 7,000 times with pages of 4 KiB, 14 times with these. Only
    // whole ones are asked for, so that no more becomes resident than was wanted.
    if (bytes >= kHugePage) {
      void* const memory = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
      // Refused where the kernel has none: then they are pages as always.
      if (memory) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
      return memory;
    }
#endif
    return std::aligned_alloc(kAlignment, bytes);
  }

  Block* fromSystem(const SizeClass& wanted) {
    void* memory = mapped(wanted.bytes);
    if (!memory) {
      release();
      memory = mapped(wanted.bytes);
    }
    if (!memory) {
      std::lock_guard lock(mutex_);
      allocated_ -= wanted.bytes;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "CPU allocator: not enough memory for ", wanted.bytes,
                       " bytes (", allocated_, " bytes in use)");
    }
    return new (memory) Block{wanted.bytes, wanted.index, nullptr, nullptr, nullptr, nullptr};
  }

  void keep(Block* block) {
    std::lock_guard lock(mutex_);
    allocated_ -= block->bytes;
    link(block);
    while (cached_ > cache_limit_) evictOldest();
  }

  void link(Block* block) {
    Block*& newest_in_class = classes_[block->size_class];
    block->newer_in_class = nullptr;
    block->older_in_class = newest_in_class;
    if (newest_in_class) newest_in_class->newer_in_class = block;
    newest_in_class = block;
    block->newer = nullptr;
    block->older = newest_;
    (newest_ ? newest_->newer : oldest_) = block;
    newest_ = block;
    cached_ += block->bytes;
  }

  void unlink(Block* block) {
    (block->newer_in_class ? block->newer_in_class->older_in_class : classes_[block->size_class]) =
        block->older_in_class;
    if (block->older_in_class) block->older_in_class->newer_in_class = block->newer_in_class;
    (block->newer ? block->newer->older : newest_) = block->older;
    (block->older ? block->older->newer : oldest_) = block->newer;
    cached_ -= block->bytes;
  }

  void evictOldest() {
    Block* block = oldest_;
    unlink(block);
    std::free(block);
  }

  std::mutex mutex_;
  std::array<Block*, kClasses> classes_{};
  Block *newest_ = nullptr, *oldest_ = nullptr;
  size_t allocated_ = 0, peak_ = 0, cached_ = 0;
  size_t budget_ = std::numeric_limits<size_t>::max() / 2;
  const size_t cache_limit_;
};

// Never destroyed: tensors in static storage of any library may outlive everything of ours.
CachingCpuAllocator& allocator() {
  static auto* instance = new CachingCpuAllocator();
  return *instance;
}

void CachingCpuAllocator::giveBack(void* data) {
  if (data) allocator().keep(Block::of(data));
}

bool wanted() {
  static const bool value = [] {
    const char* choice = std::getenv("FORNAX_CPU_ALLOCATOR");
    return !choice || std::string(choice) != "system";
  }();
  return value;
}

}  // namespace

void installCpuAllocator() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (wanted()) c10::SetCPUAllocator(&allocator(), /*priority=*/100);
  });
}

const char* cpuAllocatorName() {
  return wanted() ? "fornax-caching" : "system";
}

CpuMemory cpuMemory() {
  return wanted() ? allocator().memory() : CpuMemory{0, 0, 0, 0};
}

void resetCpuMemoryPeak() {
  if (wanted()) allocator().resetPeak();
}

void setCpuMemoryBudget(std::optional<int64_t> bytes) {
  if (wanted()) {
    allocator().setBudget(bytes ? static_cast<size_t>(*bytes) : std::numeric_limits<size_t>::max() / 2);
  }
}

void releaseCpuCache() {
  if (wanted()) allocator().releaseToSystem();
}

}  // namespace fornax
