// Learning-rate schedules: the rate of optimizer step i (0-based) as a closed form in double precision, so
// that a resumed run needs nothing but the step count. The one exception, ReduceOnPlateau, has a state of its
// own. learningRate() may be called on any thread, the rest while nobody else looks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

namespace fornax {

// Linear factor on the rate during the first `steps` steps: start + (1 − start)·i/steps (torch's LinearLR).
// The schedule behind it begins to count when it has ended.
struct WarmUp {
  int64_t steps = 0;
  double start = 0.01;
};

struct ConstantOptions {
  double lr = 0;
};

// lr · gamma^floor(i / step_size).
struct StepDecayOptions {
  double lr = 0;
  int64_t step_size = 0;
  double gamma = 0.1;
};

// lr · gamma^(milestones passed).
struct MultiStepOptions {
  double lr = 0;
  std::vector<int64_t> milestones;
  double gamma = 0.1;
};

// lr · gamma^i.
struct ExponentialOptions {
  double lr = 0;
  double gamma = 0;
};

// From lr down to min_lr at total_steps: (lr − min_lr) · (1 − i/total_steps)^power + min_lr.
struct PolynomialOptions {
  double lr = 0;
  double min_lr = 0;
  int64_t total_steps = 0;
  double power = 1;
};

// Loshchilov & Hutter 2017 without restarts: half a cosine from lr down to min_lr at total_steps.
struct CosineOptions {
  double lr = 0;
  double min_lr = 0;
  int64_t total_steps = 0;
};

// The same with warm restarts: the first period has t_0 steps, each later one t_mult times as many.
struct CosineRestartsOptions {
  double lr = 0;
  double min_lr = 0;
  int64_t t_0 = 0;
  int64_t t_mult = 1;
};

// Smith & Topin 2017 as torch.optim.lr_scheduler.OneCycleLR computes it: up, then down, and with three phases
// down to the start as fast as up and then on to the end. Momentum runs against the rate.
struct OneCycleOptions {
  double max_lr = 0;
  int64_t total_steps = 0;
  double pct_start = 0.3;
  double div_factor = 25;
  double final_div_factor = 1e4;
  bool linear = false;  // instead of along a cosine
  bool three_phase = false;
  bool cycle_momentum = false;
  double base_momentum = 0.85;
  double max_momentum = 0.95;
};

// torch.optim.lr_scheduler.ReduceLROnPlateau: after more than `patience` observations in a row that are no
// better than the best, the rate is multiplied by `factor`.
struct PlateauOptions {
  double lr = 0;
  double min_lr = 0;
  bool maximise = false;  // a higher metric is better
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  bool absolute = false;  // the threshold is a difference, not a share of the best
  int64_t cooldown = 0;
  double eps = 1e-8;  // smaller changes of the rate are not made
};

// From step `start` on the rate goes, within `anneal_steps`, from what the schedule says there to `lr`.
struct SwaRateOptions {
  int64_t start = 0;
  double lr = 0;
  int64_t anneal_steps = 0;
  bool linear = false;  // instead of along a cosine
};

struct ScheduleOptions {
  std::variant<ConstantOptions, StepDecayOptions, MultiStepOptions, ExponentialOptions, PolynomialOptions,
               CosineOptions, CosineRestartsOptions, OneCycleOptions, PlateauOptions>
      course;
  WarmUp warmup;  // in optimizer steps; total_steps of the course include it
  // Optimizer steps of one step of the course: those of an epoch for schedules per epoch. total_steps and
  // warm-up count optimizer steps all the same.
  int64_t interval = 1;
  std::optional<SwaRateOptions> swa;
};

class Schedule {
 public:
  virtual ~Schedule() = default;
  // After the last step of a schedule that has one, its last rate; a cosine rises again, as torch's does.
  virtual double learningRate(int64_t step) const = 0;
  // What momentum (or the first beta) shall be, if the schedule says.
  virtual std::optional<double> momentum(int64_t step) const { return std::nullopt; }
  // A metric of the model as it is now: for schedules that look at one.
  virtual bool observes() const { return false; }
  virtual void observe(double metric) {}
  // What a resume needs beside the step count; empty if nothing. restore() takes what state() gave.
  virtual std::vector<double> state() const { return {}; }
  virtual void restore(const std::vector<double>& state) {}
};

// Throws fornax::Error (Argument) naming the option that is out of range.
std::unique_ptr<Schedule> makeSchedule(const ScheduleOptions& options);

}  // namespace fornax
