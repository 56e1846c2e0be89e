// The choice of the variant, and the one that runs everywhere.
#include <cstdlib>
#include <cstring>

#define FORNAX_VECTOR_LANES 4
#define FORNAX_VECTOR_TARGET
#define FORNAX_VECTOR_NAMESPACE kernels_portable
#include "train/kernels/depthwise_kernels_impl.h"
#include "train/kernels/gate_kernels_impl.h"
#include "train/kernels/row_kernels_impl.h"

namespace fornax {

namespace {

enum class InstructionSet { Portable, Avx2, Avx512 };

#if defined(__x86_64__)
// As libtorch does for its own kernels, ATEN_CPU_CAPABILITY=default or avx2 holds the choice down.
InstructionSet best() {
  const char* const limit = std::getenv("ATEN_CPU_CAPABILITY");
  if (limit != nullptr && std::strcmp(limit, "default") == 0) return InstructionSet::Portable;
  const bool wide = limit == nullptr || std::strcmp(limit, "avx2") != 0;
  if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return InstructionSet::Avx512;
  }
  const bool narrow = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return narrow ? InstructionSet::Avx2 : InstructionSet::Portable;
}
#else
InstructionSet best() {
  return InstructionSet::Portable;
}
const RowKernels* rowKernelsAvx512() {
  return nullptr;
}
const RowKernels* rowKernelsAvx2() {
  return nullptr;
}
const DepthwiseKernels* depthwiseKernelsAvx512() {
  return nullptr;
}
const DepthwiseKernels* depthwiseKernelsAvx2() {
  return nullptr;
}
const GateKernels* gateKernelsAvx512() {
  return nullptr;
}
const GateKernels* gateKernelsAvx2() {
  return nullptr;
}
#endif

template <typename Kernels>
const Kernels& choose(const Kernels* (*avx512)(), const Kernels* (*avx2)(), const Kernels& portable) {
  const InstructionSet set = best();
  if (set == InstructionSet::Avx512) return *avx512();
  return set == InstructionSet::Avx2 ? *avx2() : portable;
}

}  // namespace

const RowKernels& rowKernels() {
  static const RowKernels& chosen = choose(rowKernelsAvx512, rowKernelsAvx2, kernels_portable::kRowKernels);
  return chosen;
}

const DepthwiseKernels& depthwiseKernels() {
  static const DepthwiseKernels& chosen =
      choose(depthwiseKernelsAvx512, depthwiseKernelsAvx2, kernels_portable::kDepthwiseKernels);
  return chosen;
}

const GateKernels& gateKernels() {
  static const GateKernels& chosen =
      choose(gateKernelsAvx512, gateKernelsAvx2, kernels_portable::kGateKernels);
  return chosen;
}

}  // namespace fornax
