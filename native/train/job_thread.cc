#include "train/job_thread.h"

#include <pthread.h>

#include <utility>

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
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      posted_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace fornax
