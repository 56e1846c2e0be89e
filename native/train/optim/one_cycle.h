// The one-cycle policy: phases between rates, with momentum running the other way.
#pragma once

#include <vector>

#include "train/optim/schedule.h"

namespace fornax {

class OneCycle : public Schedule {
 public:
  explicit OneCycle(const OneCycleOptions& options);
  double learningRate(int64_t step) const override;
  std::optional<double> momentum(int64_t step) const override;

 private:
  struct Range {
    double start, end;
  };
  struct Phase {
    double first, last;  // steps, in general between two whole ones, as in torch
    Range rate, momentum;
  };
  // The phase of a step and the share of it that has passed.
  std::pair<const Phase&, double> at(int64_t step) const;
  double between(const Range& range, double share) const;

  std::vector<Phase> phases_;
  bool linear_, cycle_momentum_;
};

}  // namespace fornax
