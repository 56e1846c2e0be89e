// One thread that runs jobs in the order they are posted, until it is closed. libtorch keeps settings and an
// OpenMP pool per thread, so a session computes on one thread of its own for as long as it lives. While it
// has nothing to do for long, its pool ends (compute_thread.h).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>

#include "core/error.h"

namespace fornax {

class JobThread {
 public:
  explicit JobThread(const std::string& name);  // shown by tools like top, at most 15 characters
  ~JobThread();
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  // A job must not throw. False after close(): the job is not run.
  bool post(std::function<void()> job);

  // Runs `function` on the thread and waits for its result; exceptions are thrown here. AbortedError after
  // close().
  template <typename Function>
  auto call(Function&& function) -> std::invoke_result_t<Function> {
    std::packaged_task<std::invoke_result_t<Function>()> task(std::forward<Function>(function));
    auto result = task.get_future();
    if (!post([&task] { task(); })) {
      throw Error(ErrorKind::Aborted, "the session is closed", "", "the process or the worker is ending");
    }
    return result.get();
  }

  // Runs what has been posted, then ends the thread. Not from the thread itself. Idempotent.
  void close();

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> jobs_;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace fornax
