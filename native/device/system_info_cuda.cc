// The CUDA half of system_info: compiled only in the CUDA variant. Works, and says why, where no driver is.
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <fstream>
#include <string>

#include "device/system_info.h"

namespace fornax {

namespace {

std::string dotted(int version, int major_unit, int minor_unit) {
  return std::to_string(version / major_unit) + "." + std::to_string(version % major_unit / minor_unit);
}

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07  Wed Aug 27 ...": the number after "Module".
std::optional<std::string> driverRelease() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string word;
  while (file >> word) {
    if (word != "Module") continue;
    // "Open Kernel Module for x86_64  580.82.07": skip to the first word that begins with a digit.
    while (file >> word) {
      if (!word.empty() && word[0] >= '0' && word[0] <= '9') return word;
    }
  }
  return std::nullopt;
}

}  // namespace

CudaInfo cudaInfo() {
  CudaInfo info;
  info.built = true;
  info.runtime = dotted(CUDART_VERSION, 1000, 10);

  int supported = 0;
  if (cudaDriverGetVersion(&supported) == cudaSuccess && supported > 0) {
    const auto release = driverRelease();
    info.driver = release ? *release + " (CUDA " + dotted(supported, 1000, 10) + ")"
                          : "CUDA " + dotted(supported, 1000, 10);
  }
  cudaGetLastError();  // a missing driver is an answer here, not an error to be found by the next call

  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    info.reason = info.driver ? std::string("the driver reports: ") + cudaGetErrorString(status)
                              : std::string("no NVIDIA driver is installed");
    if (status == cudaSuccess) info.reason = "no GPU is visible (check CUDA_VISIBLE_DEVICES)";
    cudaGetLastError();
    return info;
  }
  if (at::detail::getCUDAHooks().hasCuDNN()) {
    const long version = at::detail::getCUDAHooks().versionCuDNN();  // 92400 is 9.24.0, 8907 was 8.9.7
    const long major_unit = version >= 10000 ? 10000 : 1000;
    info.cudnn = std::to_string(version / major_unit) + "." + std::to_string(version % major_unit / 100) +
                 "." + std::to_string(version % 100);
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    size_t free = 0, total = 0;
    try {
      c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
      if (cudaGetDeviceProperties(&properties, index) != cudaSuccess ||
          cudaMemGetInfo(&free, &total) != cudaSuccess) {
        info.reason = "cuda:" + std::to_string(index) + ": " + cudaGetErrorString(cudaGetLastError());
        return info;
      }
    } catch (const std::exception& error) {
      info.reason = "cuda:" + std::to_string(index) + ": " + error.what();
      return info;
    }
    info.devices.push_back({properties.name, static_cast<int64_t>(total), static_cast<int64_t>(free),
                            std::to_string(properties.major) + "." + std::to_string(properties.minor),
                            properties.multiProcessorCount});
  }
  info.available = true;
  return info;
}

}  // namespace fornax
