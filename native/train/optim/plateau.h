// The schedule that looks at a metric: the rate falls when it stops getting better.
#pragma once

#include <atomic>

#include "train/optim/schedule.h"

namespace fornax {

class ReduceOnPlateau : public Schedule {
 public:
  explicit ReduceOnPlateau(const PlateauOptions& options);
  double learningRate(int64_t) const override { return rate_; }
  bool observes() const override { return true; }
  void observe(double metric) override;
  // Rate, best metric, observations without improvement, observations left to cool down.
  std::vector<double> state() const override;
  void restore(const std::vector<double>& state) override;

 private:
  bool isBetter(double metric) const;

  PlateauOptions options_;
  std::atomic<double> rate_;
  double best_;
  int64_t bad_ = 0;
  int64_t cooling_ = 0;
};

}  // namespace fornax
