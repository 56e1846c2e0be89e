#if defined(__x86_64__)

#define FORNAX_ROWS_LANES 8
#define FORNAX_ROWS_TARGET __attribute__((target("avx2,fma")))
#define FORNAX_ROWS_NAMESPACE rows_avx2
#include "train/kernels/row_kernels_impl.h"

namespace fornax {

const RowKernels* rowKernelsAvx2() {
  return &rows_avx2::kKernels;
}

}  // namespace fornax

#endif
