#include "train/optim/one_cycle.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "train/optim/schedule_checks.h"

namespace fornax {

OneCycle::OneCycle(const OneCycleOptions& options)
    : linear_(options.linear), cycle_momentum_(options.cycle_momentum) {
  checkRate(options.max_lr, "max_lr");
  requireSchedule(options.total_steps > 0, "total_steps", "at least 1");
  requireSchedule(options.pct_start >= 0 && options.pct_start <= 1, "pct_start", "between 0 and 1");
  requireSchedule(!options.three_phase || options.pct_start <= 0.5, "pct_start",
                  "at most 0.5 with three phases");
  requireSchedule(std::isfinite(options.div_factor) && options.div_factor > 0, "div_factor",
                  "greater than 0");
  requireSchedule(std::isfinite(options.final_div_factor) && options.final_div_factor > 0, "final_div_factor",
                  "greater than 0");
  for (const auto& [name, value] :
       {std::pair("base_momentum", options.base_momentum), std::pair("max_momentum", options.max_momentum)}) {
    requireSchedule(value >= 0 && value < 1, name, "at least 0 and below 1");
  }
  const double highest = options.max_lr;
  const double initial = highest / options.div_factor;
  const double final = initial / options.final_div_factor;
  const double rise = options.pct_start * static_cast<double>(options.total_steps);
  const double last = static_cast<double>(options.total_steps) - 1;
  const Range falling{options.max_momentum, options.base_momentum};
  const Range rising{options.base_momentum, options.max_momentum};
  const Range steady{options.max_momentum, options.max_momentum};
  phases_.push_back({0, rise - 1, {initial, highest}, falling});
  if (options.three_phase) {
    phases_.push_back({rise - 1, 2 * rise - 2, {highest, initial}, rising});
    phases_.push_back({2 * rise - 2, last, {initial, final}, steady});
  } else {
    phases_.push_back({rise - 1, last, {highest, final}, rising});
  }
}

std::pair<const OneCycle::Phase&, double> OneCycle::at(int64_t step) const {
  const double position = std::min(static_cast<double>(step), phases_.back().last);
  const auto found = std::find_if(phases_.begin(), phases_.end() - 1,
                                  [&](const Phase& phase) { return position <= phase.last; });
  const double length = found->last - found->first;
  return {*found, length > 0 ? (position - found->first) / length : 1};
}

double OneCycle::between(const Range& range, double share) const {
  return linear_ ? (range.end - range.start) * share + range.start
                 : cosineBetween(range.start, range.end, share);
}

double OneCycle::learningRate(int64_t step) const {
  const auto [phase, share] = at(step);
  return between(phase.rate, share);
}

std::optional<double> OneCycle::momentum(int64_t step) const {
  if (!cycle_momentum_) return std::nullopt;
  const auto [phase, share] = at(step);
  return between(phase.momentum, share);
}

}  // namespace fornax
