// SGD, Adam and AdamW in one pass over parameter, gradient and state: by operators of our own on the CPU
// (cpu_update.h), by libtorch's fused ones on a GPU.
#pragma once

#include "train/optim/optimizer.h"

namespace fornax {

class Sgd : public Optimizer {
 public:
  std::string recordingObstacle() const override;
  Sgd(const SgdOptions& options, std::vector<OptimizerGroup> groups);
  bool setMomentum(double momentum) override;

 protected:
  void update(const Bucket& bucket, const at::Tensor* found_inf) override;

 private:
  void updateDampened(const Bucket& bucket, const at::Tensor* found_inf);
  void run(const Bucket& bucket, double dampening, const at::Tensor* found_inf);
  SgdOptions options_;
};

class Adam : public Optimizer {
 public:
  std::string recordingObstacle() const override { return {}; }
  Adam(const AdamOptions& options, std::vector<OptimizerGroup> groups);
  bool setMomentum(double momentum) override;

 protected:
  void update(const Bucket& bucket, const at::Tensor* found_inf) override;

 private:
  AdamOptions options_;
};

}  // namespace fornax
