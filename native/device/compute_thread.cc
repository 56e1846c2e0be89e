#include "device/compute_thread.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <atomic>

namespace fornax {

void setUpComputeThread(const ComputeThreadOptions& options) {
  at::globalContext().setFlushDenormal(options.flush_denormal);
  if (options.threads > 0) at::set_num_threads(options.threads);
  const int64_t threads = at::get_num_threads();
  // One chunk per thread: starts the pool and reaches threads that existed already.
  at::parallel_for(0, threads, 1,
                   [&](int64_t, int64_t) { at::globalContext().setFlushDenormal(options.flush_denormal); });
}

bool poolFlushesDenormals() {
  std::atomic<bool> all{true};
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    volatile float denormal = 1e-39f;
    volatile float half = 0.5f;
    if (denormal * half != 0.0f) all = false;
  });
  return all;
}

}  // namespace fornax
