// Optimizers made of libtorch's multi-tensor operators (_foreach_*), for which there is no fused one:
// RMSprop, Adagrad, RAdam, NAdam, Lion. What depends on step counts is computed for all parameters of a
// bucket at once, on the device: nothing waits for the host. The rate is a scalar tensor, so that recorded
// steps compute the same as others.
#pragma once

#include <utility>
#include <vector>

#include "train/optim/optimizer.h"
#include "train/optim/optimizer_checks.h"

namespace fornax {

class ForeachOptimizer : public Optimizer {
 protected:
  using Optimizer::Optimizer;

  // The bucket's gradients are never written to.
  virtual void apply(const Bucket& bucket) = 0;

  // Adds one to the counts, float32 scalars; returns them all, float64 [parameters].
  static at::Tensor countSteps(const std::vector<at::Tensor>& steps);
  // Gradients with weight decay as an L2 penalty; the bucket's own where there is none.
  static std::vector<at::Tensor> penalised(const Bucket& bucket);
  // The two running averages of Adam and its relatives.
  static void updateMoments(const std::vector<at::Tensor>& mean, const std::vector<at::Tensor>& square,
                            const std::vector<at::Tensor>& gradients, const Number& beta1, double beta2);
  // base^exponents, float64.
  static at::Tensor power(const Number& base, const at::Tensor& exponents);
  // The bucket's rate, a float64 scalar on its device.
  static at::Tensor rateOf(const Bucket& bucket);
  // The rate with its sign turned around.
  static Number descent(const Bucket& bucket);
  // Decoupled weight decay of the bucket's parameters.
  static void decay(const Bucket& bucket, const at::Tensor& rate);

  // Where found_inf is 1, what `apply` did is taken back: multi-tensor operators know no such condition.
  void update(const Bucket& bucket, const at::Tensor* found_inf) override;

 private:
  void applyUnless(const Bucket& bucket, const at::Tensor& skipped);
};

class RmsProp : public ForeachOptimizer {
 public:
  RmsProp(const RmsPropOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void apply(const Bucket& bucket) override;
  bool takeMomentum(double momentum) override {
    if (options_.momentum == 0) return false;
    options_.momentum = atLeastTiny(momentum);
    return true;
  }

 private:
  RmsPropOptions options_;
};

class Adagrad : public ForeachOptimizer {
 public:
  Adagrad(const AdagradOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void apply(const Bucket& bucket) override;

 private:
  AdagradOptions options_;
};

// Whose momentum is the decay rate of the gradients' average, beta1.
template <typename Options>
class BetaOptimizer : public ForeachOptimizer {
 protected:
  BetaOptimizer(const Options& options, std::vector<OptimizerGroup> groups, std::vector<Slot> slots)
      : ForeachOptimizer(std::move(groups), std::move(slots)), options_(options) {
    requireBetas(options.beta1, options.beta2);
  }

  bool takeMomentum(double momentum) override {
    options_.beta1 = momentum;
    return true;
  }

  Options options_;
};

class RAdam : public BetaOptimizer<RAdamOptions> {
 public:
  RAdam(const RAdamOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void apply(const Bucket& bucket) override;
};

class NAdam : public BetaOptimizer<NAdamOptions> {
 public:
  NAdam(const NAdamOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void apply(const Bucket& bucket) override;
};

class Lion : public BetaOptimizer<LionOptions> {
 public:
  Lion(const LionOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void apply(const Bucket& bucket) override;
};

}  // namespace fornax
