// Settings of libtorch that belong to a thread. A thread that computes sets them once, before its first
// parallel region: the OpenMP pool it then starts inherits the floating-point mode.
#pragma once

namespace fornax {

struct ComputeThreadOptions {
  int threads = 0;              // intra-op threads; 0: libtorch's default
  bool flush_denormal = false;  // denormal floats become zero: they cost a hundred times a normal operation
};

void setUpComputeThread(const ComputeThreadOptions& options);

// For a thread that only hands work over (JavaScript's): its parallel regions run on it alone, so that it
// starts no OpenMP pool. libgomp counts the threads of all pools against the processors, and beyond them its
// waiting threads go to sleep almost at once, which costs a training step with many small regions a good part
// of its time.
void setUpScriptThread();

// Ends the OpenMP pool of the calling thread, which has nothing to compute for now; its next parallel region
// starts one again. A pool that stays counts for libgomp even if its threads sleep: see above. A thread that
// computes from time to time (evaluation beside training) calls this once it has been idle for kIdleSeconds.
void endIdlePool();
constexpr double kIdleSeconds = 0.5;

// Intra-op threads of a computing thread that is not told otherwise: one per core, or OMP_NUM_THREADS.
int defaultThreads();

// Whether every thread of the calling thread's pool flushes denormals (for tests).
bool poolFlushesDenormals();

}  // namespace fornax
