// Checks of schedules' options, and the curve that several share.
#pragma once

#include <cmath>
#include <numbers>
#include <string>

#include "core/error.h"

namespace fornax {

inline void requireSchedule(bool condition, const char* option, const std::string& expected) {
  if (condition) return;
  throw Error(ErrorKind::Argument, std::string("schedule: ") + option + " must be " + expected,
              std::string("schedule.") + option);
}

inline void checkRate(double rate, const char* option) {
  requireSchedule(std::isfinite(rate) && rate >= 0, option, "a finite number of at least 0");
}

// From `start` to `end` along half a cosine; `share` runs from 0 to 1.
inline double cosineBetween(double start, double end, double share) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * share));
}

}  // namespace fornax
