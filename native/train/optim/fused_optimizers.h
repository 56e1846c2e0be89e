// SGD, Adam and AdamW in one pass over parameter, gradient and state: by operators of our own on the CPU
// (cpu_update.h), by libtorch's fused ones on a GPU. Those take the momentum from the host: where it is on
// the device, multi-tensor operators do the same in more passes, and round a little differently.
#pragma once

#include "train/optim/foreach_optimizers.h"

namespace fornax {

class Sgd : public ForeachOptimizer {
 public:
  Sgd(const SgdOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void update(const Bucket& bucket, const at::Tensor* found_inf) override;
  void apply(const Bucket& bucket) override;
  bool takeMomentum(double momentum) override;

 private:
  void updateDampened(const Bucket& bucket, const at::Tensor* found_inf);
  void run(const Bucket& bucket, double dampening, const at::Tensor* found_inf);
  SgdOptions options_;
};

class Adam : public ForeachOptimizer {
 public:
  Adam(const AdamOptions& options, std::vector<OptimizerGroup> groups);

 protected:
  void update(const Bucket& bucket, const at::Tensor* found_inf) override;
  void apply(const Bucket& bucket) override;
  bool takeMomentum(double momentum) override;

 private:
  AdamOptions options_;
};

}  // namespace fornax
