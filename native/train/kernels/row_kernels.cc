// The choice of the variant, and the one that runs everywhere.
#include <cstdlib>
#include <cstring>

#define FORNAX_ROWS_LANES 4
#define FORNAX_ROWS_TARGET
#define FORNAX_ROWS_NAMESPACE rows_portable
#include "train/kernels/row_kernels_impl.h"

namespace fornax {

const RowKernels* rowKernelsPortable() {
  return &rows_portable::kKernels;
}

#if !defined(__x86_64__)
const RowKernels* rowKernelsAvx512() {
  return nullptr;
}
const RowKernels* rowKernelsAvx2() {
  return nullptr;
}
#endif

namespace {

// As libtorch does for its own kernels, ATEN_CPU_CAPABILITY=default or avx2 holds the choice down.
bool allowed(const char* capability) {
  const char* const limit = std::getenv("ATEN_CPU_CAPABILITY");
  if (limit == nullptr) return true;
  if (std::strcmp(limit, "default") == 0) return false;
  return std::strcmp(limit, "avx2") != 0 || std::strcmp(capability, "avx2") == 0;
}

const RowKernels* choose() {
#if defined(__x86_64__)
  if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return rowKernelsAvx512();
  }
  if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return rowKernelsAvx2();
  }
#endif
  return rowKernelsPortable();
}

}  // namespace

const RowKernels& rowKernels() {
  static const RowKernels& chosen = *choose();
  return chosen;
}

}  // namespace fornax
