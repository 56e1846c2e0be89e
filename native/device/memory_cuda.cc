// The CUDA half of memory: compiled only in the CUDA variant.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <string>

#include "core/error.h"
#include "device/memory.h"

namespace fornax {

// c10 bounds what its caching allocator reserves by a fraction of the device's memory.
void setCudaMemoryBudget(c10::Device device, std::optional<int64_t> bytes) {
  const c10::cuda::CUDAGuard guard(device);
  size_t free = 0, total = 0;
  if (const cudaError_t status = cudaMemGetInfo(&free, &total); status != cudaSuccess) {
    throw Error(ErrorKind::Device, cudaGetErrorString(status), device.str());
  }
  if (bytes && static_cast<size_t>(*bytes) > total) {
    throw Error(ErrorKind::Argument,
                "the memory budget of " + std::to_string(*bytes) + " bytes is more than the " +
                    std::to_string(total) + " bytes that " + device.str() + " has",
                "budget");
  }
  const double fraction = bytes ? static_cast<double>(*bytes) / static_cast<double>(total) : 1.0;
  c10::cuda::CUDACachingAllocator::setMemoryFraction(fraction, device.index());
}

}  // namespace fornax
