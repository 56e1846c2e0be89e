#if defined(__x86_64__)

#define FORNAX_VECTOR_LANES 8
#define FORNAX_VECTOR_TARGET __attribute__((target("avx2,fma")))
#define FORNAX_VECTOR_NAMESPACE kernels_avx2
#include "train/kernels/depthwise_kernels_impl.h"
#include "train/kernels/gate_kernels_impl.h"
#include "train/kernels/row_kernels_impl.h"

namespace fornax {

const RowKernels* rowKernelsAvx2() {
  return &kernels_avx2::kRowKernels;
}

const DepthwiseKernels* depthwiseKernelsAvx2() {
  return &kernels_avx2::kDepthwiseKernels;
}

const GateKernels* gateKernelsAvx2() {
  return &kernels_avx2::kGateKernels;
}

}  // namespace fornax

#endif
