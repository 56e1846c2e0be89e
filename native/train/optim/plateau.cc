#include "train/optim/plateau.h"

#include <algorithm>
#include <limits>

#include "train/optim/schedule_checks.h"

namespace fornax {

ReduceOnPlateau::ReduceOnPlateau(const PlateauOptions& options) : options_(options), rate_(options.lr) {
  checkRate(options.lr, "lr");
  checkRate(options.min_lr, "min_lr");
  requireSchedule(options.factor >= 0 && options.factor < 1, "factor", "at least 0 and below 1");
  requireSchedule(options.patience >= 0, "patience", "at least 0");
  requireSchedule(options.cooldown >= 0, "cooldown", "at least 0");
  requireSchedule(std::isfinite(options.threshold), "threshold", "a finite number");
  requireSchedule(std::isfinite(options.eps) && options.eps >= 0, "eps", "a finite number of at least 0");
  const double infinity = std::numeric_limits<double>::infinity();
  best_ = options.maximise ? -infinity : infinity;
}

bool ReduceOnPlateau::isBetter(double metric) const {
  const double sign = options_.maximise ? 1 : -1;
  const double bar =
      options_.absolute ? best_ + sign * options_.threshold : best_ * (1 + sign * options_.threshold);
  return options_.maximise ? metric > bar : metric < bar;
}

void ReduceOnPlateau::observe(double metric) {
  if (isBetter(metric)) {
    best_ = metric;
    bad_ = 0;
  } else {
    ++bad_;
  }
  if (cooling_ > 0) {
    --cooling_;
    bad_ = 0;
  }
  if (bad_ <= options_.patience) return;
  const double reduced = std::max(rate_ * options_.factor, options_.min_lr);
  if (rate_ - reduced > options_.eps) rate_ = reduced;
  cooling_ = options_.cooldown;
  bad_ = 0;
}

std::vector<double> ReduceOnPlateau::state() const {
  return {rate_, best_, static_cast<double>(bad_), static_cast<double>(cooling_)};
}

void ReduceOnPlateau::restore(const std::vector<double>& state) {
  rate_ = state.at(0);
  best_ = state.at(1);
  bad_ = static_cast<int64_t>(state.at(2));
  cooling_ = static_cast<int64_t>(state.at(3));
}

}  // namespace fornax
