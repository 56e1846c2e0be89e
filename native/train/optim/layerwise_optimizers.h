// Optimizers for large batches whose rate adapts to the norm of each layer: LAMB and LARS, as timm has them.
#pragma once

#include "train/optim/foreach_optimizers.h"

namespace fornax {

class Lamb : public BetaOptimizer<LambOptions> {
 public:
  Lamb(const LambOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void prepare(const std::vector<at::Tensor>& gradients) override;
  void apply(const Bucket& bucket) override;

 private:
  at::Tensor divisor_;  // of all gradients of this step: max(1, norm / max_grad_norm)
};

class Lars : public ForeachOptimizer {
 public:
  Lars(const LarsOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void apply(const Bucket& bucket) override;
  bool takeMomentum(double momentum) override {
    if (options_.momentum == 0) return false;
    options_.momentum = atLeastTiny(momentum);
    return true;
  }

 private:
  LarsOptions options_;
};

}  // namespace fornax
