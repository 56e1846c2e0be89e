#include "train/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "train/optim/one_cycle.h"
#include "train/optim/plateau.h"
#include "train/optim/schedule_checks.h"
#include "train/optim/swa_rate.h"

namespace fornax {

namespace {

// Any schedule behind a linear warm-up, at its own pace.
class Paced : public Schedule {
 public:
  Paced(WarmUp warmup, int64_t interval, std::unique_ptr<Schedule> next)
      : warmup_(warmup), interval_(interval), next_(std::move(next)) {}

  double learningRate(int64_t step) const override {
    if (step >= warmup_.steps) return next_->learningRate(position(step));
    const double share = static_cast<double>(step) / static_cast<double>(warmup_.steps);
    return next_->learningRate(0) * (warmup_.start + (1 - warmup_.start) * share);
  }

  std::optional<double> momentum(int64_t step) const override { return next_->momentum(position(step)); }
  bool observes() const override { return next_->observes(); }
  void observe(double metric) override { next_->observe(metric); }
  std::vector<double> state() const override { return next_->state(); }
  void restore(const std::vector<double>& state) override { next_->restore(state); }

 private:
  int64_t position(int64_t step) const { return std::max<int64_t>(step - warmup_.steps, 0) / interval_; }

  WarmUp warmup_;
  int64_t interval_;
  std::unique_ptr<Schedule> next_;
};

class Constant : public Schedule {
 public:
  explicit Constant(const ConstantOptions& options) : lr_(options.lr) { checkRate(lr_, "lr"); }
  double learningRate(int64_t) const override { return lr_; }

 private:
  double lr_;
};

// lr · gamma^n, where n grows by one at each milestone, each `step_size` steps, or each step.
class Decay : public Schedule {
 public:
  Decay(double lr, double gamma) : lr_(lr), gamma_(gamma) {
    checkRate(lr, "lr");
    requireSchedule(std::isfinite(gamma) && gamma >= 0, "gamma", "a finite number of at least 0");
  }
  double learningRate(int64_t step) const override {
    return lr_ * std::pow(gamma_, static_cast<double>(decays(step)));
  }

 private:
  virtual int64_t decays(int64_t step) const = 0;
  double lr_, gamma_;
};

class StepDecay : public Decay {
 public:
  explicit StepDecay(const StepDecayOptions& options)
      : Decay(options.lr, options.gamma), step_size_(options.step_size) {
    requireSchedule(step_size_ > 0, "step_size", "at least 1");
  }

 private:
  int64_t decays(int64_t step) const override { return step / step_size_; }
  int64_t step_size_;
};

class MultiStep : public Decay {
 public:
  explicit MultiStep(const MultiStepOptions& options)
      : Decay(options.lr, options.gamma), milestones_(options.milestones) {
    std::sort(milestones_.begin(), milestones_.end());
    requireSchedule(!milestones_.empty() && milestones_.front() >= 0, "milestones",
                    "a list of steps of at least 0");
  }

 private:
  int64_t decays(int64_t step) const override {
    return std::upper_bound(milestones_.begin(), milestones_.end(), step) - milestones_.begin();
  }
  std::vector<int64_t> milestones_;
};

class Exponential : public Decay {
 public:
  explicit Exponential(const ExponentialOptions& options) : Decay(options.lr, options.gamma) {}

 private:
  int64_t decays(int64_t step) const override { return step; }
};

class Polynomial : public Schedule {
 public:
  explicit Polynomial(const PolynomialOptions& options) : options_(options) {
    checkRate(options.lr, "lr");
    checkRate(options.min_lr, "min_lr");
    requireSchedule(options.total_steps > 0, "total_steps", "greater than warmup_steps");
    requireSchedule(std::isfinite(options.power) && options.power > 0, "power", "greater than 0");
  }
  double learningRate(int64_t step) const override {
    const auto& [lr, min_lr, total, power] = options_;
    const double left = 1 - static_cast<double>(std::min(step, total)) / static_cast<double>(total);
    return (lr - min_lr) * std::pow(left, power) + min_lr;
  }

 private:
  PolynomialOptions options_;
};

class Cosine : public Schedule {
 public:
  explicit Cosine(const CosineOptions& options) : options_(options) {
    checkRate(options.lr, "lr");
    checkRate(options.min_lr, "min_lr");
    requireSchedule(options.total_steps > 0, "total_steps", "greater than warmup_steps");
  }
  double learningRate(int64_t step) const override {
    const auto& [lr, min_lr, total] = options_;
    // Up again behind its end, as torch's CosineAnnealingLR.
    return cosineBetween(lr, min_lr, static_cast<double>(step) / static_cast<double>(total));
  }

 private:
  CosineOptions options_;
};

class CosineRestarts : public Schedule {
 public:
  explicit CosineRestarts(const CosineRestartsOptions& options) : options_(options) {
    checkRate(options.lr, "lr");
    checkRate(options.min_lr, "min_lr");
    requireSchedule(options.t_0 > 0, "t_0", "at least 1");
    requireSchedule(options.t_mult > 0, "t_mult", "at least 1");
  }
  double learningRate(int64_t step) const override {
    const auto& [lr, min_lr, t_0, t_mult] = options_;
    int64_t since = t_mult == 1 ? step % t_0 : step;
    int64_t period = t_0;
    while (since >= period) {
      since -= period;
      // A period that no number of steps can reach is long enough.
      period = period > std::numeric_limits<int64_t>::max() / t_mult ? std::numeric_limits<int64_t>::max()
                                                                     : period * t_mult;
    }
    return cosineBetween(lr, min_lr, static_cast<double>(since) / static_cast<double>(period));
  }

 private:
  CosineRestartsOptions options_;
};

// What is left of total_steps (of the optimizer) after the warm-up, in steps of the course.
int64_t remaining(int64_t total_steps, const ScheduleOptions& options) {
  const int64_t left = total_steps - options.warmup.steps;
  return left > 0 ? std::max<int64_t>(left / options.interval, 1) : 0;
}

std::unique_ptr<Schedule> makeCourse(const ScheduleOptions& options) {
  struct Make {
    const ScheduleOptions& all;
    std::unique_ptr<Schedule> operator()(const ConstantOptions& o) { return std::make_unique<Constant>(o); }
    std::unique_ptr<Schedule> operator()(const StepDecayOptions& o) { return std::make_unique<StepDecay>(o); }
    std::unique_ptr<Schedule> operator()(const MultiStepOptions& o) { return std::make_unique<MultiStep>(o); }
    std::unique_ptr<Schedule> operator()(const ExponentialOptions& o) {
      return std::make_unique<Exponential>(o);
    }
    std::unique_ptr<Schedule> operator()(PolynomialOptions o) {
      o.total_steps = remaining(o.total_steps, all);
      return std::make_unique<Polynomial>(o);
    }
    std::unique_ptr<Schedule> operator()(CosineOptions o) {
      o.total_steps = remaining(o.total_steps, all);
      return std::make_unique<Cosine>(o);
    }
    std::unique_ptr<Schedule> operator()(const CosineRestartsOptions& o) {
      return std::make_unique<CosineRestarts>(o);
    }
    std::unique_ptr<Schedule> operator()(OneCycleOptions o) {
      o.total_steps = remaining(o.total_steps, all);
      return std::make_unique<OneCycle>(o);
    }
    std::unique_ptr<Schedule> operator()(const PlateauOptions& o) {
      return std::make_unique<ReduceOnPlateau>(o);
    }
  };
  return std::visit(Make{options}, options.course);
}

}  // namespace

std::unique_ptr<Schedule> makeSchedule(const ScheduleOptions& options) {
  const WarmUp& warmup = options.warmup;
  requireSchedule(warmup.steps >= 0, "warmup_steps", "at least 0");
  requireSchedule(std::isfinite(warmup.start) && warmup.start >= 0, "warmup_start",
                  "a finite factor of at least 0");
  requireSchedule(options.interval >= 1, "interval", "at least 1");
  std::unique_ptr<Schedule> course = makeCourse(options);
  if (warmup.steps > 0 || options.interval > 1) {
    course = std::make_unique<Paced>(warmup, options.interval, std::move(course));
  }
  return options.swa ? withSwaRate(*options.swa, std::move(course)) : std::move(course);
}

}  // namespace fornax
