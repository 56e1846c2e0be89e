// Counts how often the calling thread makes the host wait for the device, for tests: libtorch warns of each
// such operation when asked to (torch.cuda.set_sync_debug_mode). The question is put to the whole process;
// warnings of other threads go where they always do. On the CPU, and without the CUDA variant, there is
// nothing to count.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>

namespace fornax {

class SyncCount {
 public:
  virtual ~SyncCount() = default;
  // Since this object was made; it counts until it is gone.
  virtual int64_t count() const = 0;
};

// Null where there is nothing to count.
std::unique_ptr<SyncCount> countSyncs(c10::Device device);

// In sync_count_cuda.cc.
std::unique_ptr<SyncCount> countCudaSyncs();

}  // namespace fornax
