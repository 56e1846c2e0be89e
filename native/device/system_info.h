// What this process can compute on: libtorch's version and abilities, the CPU's instruction sets, the GPUs.
// Plain values, gathered on demand; nothing is kept. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fornax {

struct CpuFeatures {
  bool avx2 = false;
  bool avx512 = false;  // F, BW, DQ and VL: what ATen's AVX512 kernels need
  bool avx512_bf16 = false;
  bool avx512_vnni = false;
  bool amx_bf16 = false;
  bool amx_int8 = false;
};

struct CudaDevice {
  std::string name;
  int64_t memory;  // bytes
  int64_t free;    // bytes
  std::string capability;
  int multiprocessors;
};

struct CudaInfo {
  bool built = false;
  bool available = false;
  std::optional<std::string> reason;  // why it is not available
  std::optional<std::string> driver;
  std::optional<std::string> runtime;
  std::optional<std::string> cudnn;
  std::vector<CudaDevice> devices;
};

struct SystemInfo {
  std::string torch_version;
  std::string cpu_capability;
  CpuFeatures cpu_features;
  int threads;
  int interop_threads;
  bool mkldnn;
  bool mkl;
  bool openmp;
  std::string cpu_allocator;
  CudaInfo cuda;
};

// Instruction sets that the CPU has and the operating system saves across context switches.
CpuFeatures cpuFeatures();
// In system_info_cuda.cc for the CUDA variant; otherwise says that this is the CPU variant.
CudaInfo cudaInfo();
SystemInfo systemInfo();

}  // namespace fornax
