#if defined(__x86_64__)

#define FORNAX_ROWS_LANES 16
#define FORNAX_ROWS_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define FORNAX_ROWS_NAMESPACE rows_avx512
#include "train/kernels/row_kernels_impl.h"

namespace fornax {

const RowKernels* rowKernelsAvx512() {
  return &rows_avx512::kKernels;
}

}  // namespace fornax

#endif
