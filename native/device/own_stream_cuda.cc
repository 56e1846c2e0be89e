// The CUDA half of own streams: compiled only in the CUDA variant.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "device/own_stream.h"

namespace fornax {

namespace {

std::mutex mutex;

std::vector<c10::Stream>& unused() {
  static auto* const streams = new std::vector<c10::Stream>;  // outlives every session
  return *streams;
}

}  // namespace

c10::Stream takeCudaStream(c10::Device device) {
  std::lock_guard lock(mutex);
  std::vector<c10::Stream>& streams = unused();
  const auto found = std::find_if(streams.begin(), streams.end(),
                                  [&](const c10::Stream& stream) { return stream.device() == device; });
  if (found != streams.end()) {
    const c10::Stream stream = *found;
    streams.erase(found);
    return stream;
  }
  const c10::cuda::CUDAGuard guard(device);
  cudaStream_t stream = nullptr;
  // Not one that waits for the legacy stream, on which other threads work.
  if (const cudaError_t status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      status != cudaSuccess) {
    cudaGetLastError();
    throw Error(ErrorKind::Device, cudaGetErrorString(status), device.str());
  }
  return c10::cuda::getStreamFromExternal(stream, device.index()).unwrap();
}

void giveBackCudaStream(const c10::Stream& stream) noexcept {
  std::lock_guard lock(mutex);
  unused().push_back(stream);
}

}  // namespace fornax
