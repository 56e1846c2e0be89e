#include "device/compute_thread.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

// From the OpenMP runtime that libtorch brings; absent in a libtorch built without OpenMP.
extern "C" __attribute__((weak)) void omp_set_num_threads(int threads);
extern "C" __attribute__((weak)) int omp_pause_resource_all(int kind);

namespace fornax {

int defaultThreads() {
  static const int threads = at::get_num_threads();
  return threads;
}

void setUpScriptThread() {
  defaultThreads();  // libtorch's own setting of this thread comes first
  if (omp_set_num_threads != nullptr) omp_set_num_threads(1);
}

void endIdlePool() {
  constexpr int kSoft = 1;  // omp_pause_soft: settings of the thread stay
  if (omp_pause_resource_all != nullptr) omp_pause_resource_all(kSoft);
}

void setUpComputeThread(const ComputeThreadOptions& options) {
  at::globalContext().setFlushDenormal(options.flush_denormal);
  if (options.threads > 0) at::set_num_threads(options.threads);
  const int64_t threads = at::get_num_threads();
  // One chunk per thread: starts the pool and reaches threads that existed already.
  at::parallel_for(0, threads, 1,
                   [&](int64_t, int64_t) { at::globalContext().setFlushDenormal(options.flush_denormal); });
}

}  // namespace fornax
