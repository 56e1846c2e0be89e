#if defined(__x86_64__)

#define FORNAX_VECTOR_LANES 16
#define FORNAX_VECTOR_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define FORNAX_VECTOR_NAMESPACE kernels_avx512
#include "train/kernels/depthwise_kernels_impl.h"
#include "train/kernels/gate_kernels_impl.h"
#include "train/kernels/row_kernels_impl.h"

namespace fornax {

const RowKernels* rowKernelsAvx512() {
  return &kernels_avx512::kRowKernels;
}

const DepthwiseKernels* depthwiseKernelsAvx512() {
  return &kernels_avx512::kDepthwiseKernels;
}

const GateKernels* gateKernelsAvx512() {
  return &kernels_avx512::kGateKernels;
}

}  // namespace fornax

#endif
