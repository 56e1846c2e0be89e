// Learning-rate schedules: the rate of optimizer step i (0-based) as a closed form in double precision, so
// that a resumed run needs nothing but the step count. Immutable; may be read on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>

namespace fornax {

// Linear factor on the rate during the first `steps` steps: start + (1 − start)·i/steps (torch's LinearLR).
struct WarmUp {
  int64_t steps = 0;
  double start = 0.01;
};

struct ConstantOptions {
  double lr = 0;
  WarmUp warmup;
};

// Loshchilov & Hutter 2017 without restarts: after the warm-up, half a cosine from lr down to min_lr at
// total_steps.
struct CosineOptions {
  double lr = 0;
  double min_lr = 0;
  int64_t total_steps = 0;
  WarmUp warmup;
};

// Smith & Topin 2017 as torch.optim.lr_scheduler.OneCycleLR computes it: two phases, cosine annealing.
struct OneCycleOptions {
  double max_lr = 0;
  int64_t total_steps = 0;
  double pct_start = 0.3;
  double div_factor = 25;
  double final_div_factor = 1e4;
};

using ScheduleOptions = std::variant<ConstantOptions, CosineOptions, OneCycleOptions>;

class Schedule {
 public:
  virtual ~Schedule() = default;
  // After the last step of a schedule that has one, its last rate.
  virtual double learningRate(int64_t step) const = 0;
};

// Throws fornax::Error (Argument) naming the option that is out of range.
std::unique_ptr<Schedule> makeSchedule(const ScheduleOptions& options);

}  // namespace fornax
