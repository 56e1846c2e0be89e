#include "core/worker_pool.h"

#include <algorithm>
#include <utility>

namespace fornax {

WorkerPool::WorkerPool(size_t threads, std::function<void()> prepare)
    : size_(std::max<size_t>(threads, 1)), prepare_(std::move(prepare)) {}

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
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    ready_.wait(lock, [this] { return stopped_ || !jobs_.empty(); });
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
