#include "train/optim/swa_rate.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "train/optim/schedule_checks.h"

namespace fornax {

namespace {

constexpr double kPi = 3.14159265358979323846;

class SwaRate : public Schedule {
 public:
  SwaRate(const SwaRateOptions& options, std::unique_ptr<Schedule> before)
      : options_(options), before_(std::move(before)) {}

  double learningRate(int64_t step) const override {
    const int64_t since = step - options_.start;
    if (since < 0) return before_->learningRate(step);
    const double share = std::min(
        1.0, static_cast<double>(since) / static_cast<double>(std::max<int64_t>(options_.anneal_steps, 1)));
    const double alpha = options_.anneal_steps == 0 ? 1
                         : options_.linear          ? share
                                                    : (1 - std::cos(kPi * share)) / 2;
    return options_.lr * alpha + before_->learningRate(options_.start) * (1 - alpha);
  }
  std::optional<double> momentum(int64_t step) const override {
    return before_->momentum(std::min(step, options_.start));
  }

 private:
  SwaRateOptions options_;
  std::unique_ptr<Schedule> before_;
};

}  // namespace

std::unique_ptr<Schedule> withSwaRate(const SwaRateOptions& options, std::unique_ptr<Schedule> schedule) {
  checkRate(options.lr, "swa.lr");
  requireSchedule(options.start >= 0, "swa.start", "at least 0");
  requireSchedule(options.anneal_steps >= 0, "swa.anneal_steps", "at least 0");
  requireSchedule(!schedule->observes(), "swa", "left out for a schedule that observes a metric");
  return std::make_unique<SwaRate>(options, std::move(schedule));
}

}  // namespace fornax
