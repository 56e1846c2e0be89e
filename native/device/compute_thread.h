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

// Ends the OpenMP pool of the calling thread; its next parallel region starts a new one. For threads that
// compute from time to time (evaluation beside training), once they have been idle for kIdleSeconds: libgomp
// counts the threads of a pool even while they sleep, at the expense of other pools (setUpScriptThread).
void endIdlePool();
constexpr double kIdleSeconds = 0.5;

// Intra-op threads of a computing thread that is not told otherwise: one per core, or OMP_NUM_THREADS.
int defaultThreads();

}  // namespace fornax
