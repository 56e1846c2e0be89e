// A bounded set of our own threads that run jobs in order of arrival. Not libuv's pool (each of whose threads
// would start an OpenMP pool of its own).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fornax {

// What a thread does when it has had no job for so long since its last one: once, then it waits on.
struct WhenIdle {
  double seconds = 0;
  std::function<void()> action;
};

class WorkerPool {
 public:
  // `prepare` runs once on each thread before its first job (thread counts, flush-denormal). Threads start
  // with the first job. Neither may throw.
  WorkerPool(size_t threads, std::function<void()> prepare, WhenIdle idle = {});
  ~WorkerPool();

  // False after stop(): the job is dropped. A job must not throw.
  bool post(std::function<void()> job);
  // Drops waiting jobs, waits for running ones. Idempotent; must not be called from a job.
  void stop();

 private:
  void work();

  size_t size_;
  std::function<void()> prepare_;
  WhenIdle on_idle_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool stopped_ = false;
};

}  // namespace fornax
