// How long a part of a measurement takes, on machines that may be busy with other things.
#pragma once

#include <algorithm>
#include <chrono>

#include "train/precision/node_timer.h"

namespace fornax {

class Stopwatch {
 public:
  // Seconds of computing, or what counts as that where others have the processor all the time.
  double seconds() const { return std::max(threadSeconds() - computing_, wall() / kPatience); }
  double wall() const { return std::chrono::duration<double>(Clock::now() - wall_).count(); }
  double processorShare() const {
    const double passed = wall();
    return passed > 0 ? std::min(1.0, (threadSeconds() - computing_) / passed) : 1;
  }

 private:
  using Clock = std::chrono::steady_clock;
  // On a busy machine everything takes longer: so many times as long at most.
  static constexpr double kPatience = 3;

  Clock::time_point wall_ = Clock::now();
  double computing_ = threadSeconds();
};

}  // namespace fornax
