#include "core/worker_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace fornax {

WorkerPool::WorkerPool(size_t threads, std::function<void()> prepare, WhenIdle idle)
    : size_(std::max<size_t>(threads, 1)), prepare_(std::move(prepare)), on_idle_(std::move(idle)) {}

WorkerPool::~WorkerPool() {
  stop();
}

bool WorkerPool::post(std::function<void()> job) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_) return false;
  // The thread first: if none can be had, the job has not been taken.
  if (idle_ <= jobs_.size() && threads_.size() < size_) threads_.emplace_back([this] { work(); });
  jobs_.push_back(std::move(job));
  ready_.notify_one();
  return true;
}

void WorkerPool::stop() {
  std::deque<std::function<void()>> dropped;
  std::vector<std::thread> threads;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    dropped.swap(jobs_);
    threads.swap(threads_);
  }
  ready_.notify_all();
  for (auto& thread : threads) thread.join();
}

void WorkerPool::work() {
  if (prepare_) prepare_();
  const auto ready = [this] { return stopped_ || !jobs_.empty(); };
  bool worked = false;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    if (worked && on_idle_.action &&
        !ready_.wait_for(lock, std::chrono::duration<double>(on_idle_.seconds), ready)) {
      lock.unlock();
      on_idle_.action();
      lock.lock();
    }
    ready_.wait(lock, ready);
    worked = true;
    --idle_;
    if (jobs_.empty()) return;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // what the job holds is released outside the lock
    lock.lock();
  }
}

}  // namespace fornax
