#include "device/sync_count.h"

namespace fornax {

std::unique_ptr<SyncCount> countSyncs(c10::Device device) {
#ifdef FORNAX_CUDA
  if (device.is_cuda()) return countCudaSyncs();
#endif
  return nullptr;
}

}  // namespace fornax
