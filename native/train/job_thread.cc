#include "train/job_thread.h"

#include <pthread.h>

#include <chrono>
#include <utility>

#include "device/compute_thread.h"

namespace fornax {

JobThread::JobThread(const std::string& name) : thread_([this] { loop(); }) {
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

JobThread::~JobThread() {
  close();
}

bool JobThread::post(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    jobs_.push_back(std::move(job));
  }
  posted_.notify_one();
  return true;
}

void JobThread::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  posted_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void JobThread::loop() {
  const auto ready = [this] { return closed_ || !jobs_.empty(); };
  for (bool worked = false;; worked = true) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      if (worked && !posted_.wait_for(lock, std::chrono::duration<double>(kIdleSeconds), ready)) {
        lock.unlock();
        endIdlePool();
        lock.lock();
      }
      posted_.wait(lock, ready);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace fornax
