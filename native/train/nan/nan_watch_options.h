// What a training session is told about the watch for numbers that are not finite (nan_watch.h).
#pragma once

#include <cstdint>

namespace fornax {

struct NanWatchOptions {
  // Steps, on the CPU; those whose norm is known anyway are looked at every time, and on a GPU all of them.
  int64_t gradients_every = 1;
  bool anomaly = false;  // look at every node of every step
};

}  // namespace fornax
