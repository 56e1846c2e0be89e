// What a session's thread and its owner tell each other while a job runs. Any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/error.h"

namespace fornax {

struct SessionSignals {
  std::atomic<bool> stop{false};   // after this step
  std::atomic<bool> abort{false};  // now
  std::atomic<int64_t> steps{0};   // done so far

  void throwIfAborted() const {
    if (abort) {
      throw Error(ErrorKind::Aborted, "the training session was closed while it was working", "TrainSession");
    }
  }
};

}  // namespace fornax
