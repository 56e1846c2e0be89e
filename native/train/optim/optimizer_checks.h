// Checks of optimizers' options.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"

namespace fornax {

inline void requireOption(bool condition, const char* option, const char* expected) {
  if (condition) return;
  throw Error(ErrorKind::Argument, std::string("optimizer: ") + option + " must be " + expected,
              std::string("optimizer.") + option);
}

// A decay rate of a running average.
inline void requireShare(double value, const char* option) {
  requireOption(value >= 0 && value < 1, option, "at least 0 and below 1");
}

inline void requireNotNegative(double value, const char* option) {
  requireOption(std::isfinite(value) && value >= 0, option, "a finite number of at least 0");
}

inline void requireBetas(double beta1, double beta2) {
  requireShare(beta1, "betas[0]");
  requireShare(beta2, "betas[1]");
}

// A momentum that a schedule moves is never 0: that would be another optimizer in the middle of its course.
inline double atLeastTiny(double momentum) {
  return std::max(momentum, std::numeric_limits<double>::min());
}

}  // namespace fornax
