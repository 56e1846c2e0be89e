#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>

#include "core/error.h"

namespace fornax {

namespace {

void require(bool condition, const char* option, const std::string& expected) {
  if (condition) return;
  throw Error(ErrorKind::Argument, std::string("schedule: ") + option + " must be " + expected,
              std::string("schedule.") + option);
}

void checkRate(double rate, const char* option) {
  require(std::isfinite(rate) && rate >= 0, option, "a finite number of at least 0");
}

// From `start` to `end` along half a cosine; `share` runs from 0 to 1.
double cosineBetween(double start, double end, double share) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * share));
}

// Any schedule behind a linear warm-up; its own steps begin to count when the warm-up has ended.
class WarmedUp : public Schedule {
 public:
  WarmedUp(WarmUp warmup, std::unique_ptr<Schedule> next) : warmup_(warmup), next_(std::move(next)) {
    require(warmup_.steps >= 0, "warmup_steps", "at least 0");
    require(std::isfinite(warmup_.start) && warmup_.start >= 0, "warmup_start",
            "a finite factor of at least 0");
  }

  double learningRate(int64_t step) const override {
    if (step >= warmup_.steps) return next_->learningRate(step - warmup_.steps);
    const double share = static_cast<double>(step) / static_cast<double>(warmup_.steps);
    return next_->learningRate(0) * (warmup_.start + (1 - warmup_.start) * share);
  }

 private:
  WarmUp warmup_;
  std::unique_ptr<Schedule> next_;
};

class Constant : public Schedule {
 public:
  explicit Constant(double lr) : lr_(lr) { checkRate(lr, "lr"); }
  double learningRate(int64_t) const override { return lr_; }

 private:
  double lr_;
};

class Cosine : public Schedule {
 public:
  Cosine(double lr, double min_lr, int64_t steps) : lr_(lr), min_lr_(min_lr), steps_(steps) {
    checkRate(lr, "lr");
    checkRate(min_lr, "min_lr");
    require(steps > 0, "total_steps", "greater than warmup_steps");
  }

  double learningRate(int64_t step) const override {
    const double share = static_cast<double>(std::min(step, steps_)) / static_cast<double>(steps_);
    return cosineBetween(lr_, min_lr_, share);
  }

 private:
  double lr_, min_lr_;
  int64_t steps_;
};

class OneCycle : public Schedule {
 public:
  explicit OneCycle(const OneCycleOptions& options)
      : max_(options.max_lr),
        initial_(options.max_lr / options.div_factor),
        final_(options.max_lr / options.div_factor / options.final_div_factor),
        peak_(options.pct_start * static_cast<double>(options.total_steps) - 1),
        last_(static_cast<double>(options.total_steps) - 1) {
    checkRate(max_, "max_lr");
    require(options.total_steps > 0, "total_steps", "at least 1");
    require(options.pct_start >= 0 && options.pct_start <= 1, "pct_start", "between 0 and 1");
    require(std::isfinite(options.div_factor) && options.div_factor > 0, "div_factor", "greater than 0");
    require(std::isfinite(options.final_div_factor) && options.final_div_factor > 0, "final_div_factor",
            "greater than 0");
  }

  // The peak lies at pct_start·total_steps − 1, in general between two steps, as in torch.
  double learningRate(int64_t step) const override {
    const double at = std::min(static_cast<double>(step), last_);
    if (at <= peak_) return cosineBetween(initial_, max_, share(at, 0, peak_));
    return cosineBetween(max_, final_, share(at, peak_, last_));
  }

 private:
  static double share(double at, double start, double end) {
    return end > start ? (at - start) / (end - start) : 1;
  }

  double max_, initial_, final_, peak_, last_;
};

std::unique_ptr<Schedule> make(const ConstantOptions& options) {
  return std::make_unique<WarmedUp>(options.warmup, std::make_unique<Constant>(options.lr));
}

std::unique_ptr<Schedule> make(const CosineOptions& options) {
  return std::make_unique<WarmedUp>(
      options.warmup,
      std::make_unique<Cosine>(options.lr, options.min_lr, options.total_steps - options.warmup.steps));
}

std::unique_ptr<Schedule> make(const OneCycleOptions& options) {
  return std::make_unique<OneCycle>(options);
}

}  // namespace

std::unique_ptr<Schedule> makeSchedule(const ScheduleOptions& options) {
  return std::visit([](const auto& each) { return make(each); }, options);
}

}  // namespace fornax
