#include "device/system_info.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "device/compute_thread.h"
#include "device/cpu_allocator.h"

namespace fornax {

namespace {

#if defined(__x86_64__)
// Register state the operating system saves (XCR0): Intel SDM vol. 1, 13.3. Needs OSXSAVE.
uint64_t savedState() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

constexpr uint64_t kYmm = 0x6;       // SSE, AVX
constexpr uint64_t kZmm = 0xe6;      // and opmask, upper halves, upper registers
constexpr uint64_t kTile = 0x60000;  // TILECFG, TILEDATA

bool bit(uint32_t word, int index) {
  return (word >> index) & 1U;
}
#endif

}  // namespace

// Asked with cpuid rather than through ATen, whose functions for it change from version to version.
CpuFeatures cpuFeatures() {
  CpuFeatures features;
#if defined(__x86_64__)
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return features;
  const uint64_t saved = savedState();
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  const uint32_t subleaves = a;
  const bool ymm = (saved & kYmm) == kYmm;
  const bool zmm = (saved & kZmm) == kZmm;
  const bool tile = (saved & kTile) == kTile && bit(d, 24);
  features.avx2 = ymm && bit(b, 5);
  features.avx512 = zmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
  features.avx512_vnni = features.avx512 && bit(c, 11);
  features.amx_bf16 = tile && bit(d, 22);
  features.amx_int8 = tile && bit(d, 25);
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    features.avx512_bf16 = features.avx512 && bit(a, 5);
  }
#endif
  return features;
}

#ifndef FORNAX_CUDA
CudaInfo cudaInfo() {
  CudaInfo info;
  info.reason = "the addon is the CPU variant";
  return info;
}
#endif

SystemInfo systemInfo() {
  SystemInfo info;
  info.torch_version = TORCH_VERSION;
  info.cpu_capability = at::get_cpu_capability();
  info.cpu_features = cpuFeatures();
  info.threads = defaultThreads();
  info.interop_threads = at::get_num_interop_threads();
  info.mkldnn = at::Context::hasMKLDNN();
  info.mkl = at::Context::hasMKL();
  info.openmp = at::Context::hasOpenMP();
  info.cpu_allocator = cpuAllocatorName();
  info.cuda = cudaInfo();
  return info;
}

}  // namespace fornax
