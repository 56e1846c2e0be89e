// Optimizers: update the parameters of a model in place from their gradients. A subclass declares the tensors
// it keeps per parameter (its slots: momentum, second moments, step counts) and updates one bucket at a time,
// that is parameters of one group, device and dtype, as the fused operators demand. Parameters without a
// gradient are left alone, their step count included. Lives on the session's thread; gradient recording must
// be off.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace fornax {

struct SgdOptions {
  double momentum = 0;
  double dampening = 0;
  bool nesterov = false;
};

// Kingma & Ba 2015; `decoupled` decay is AdamW (Loshchilov & Hutter 2019); amsgrad: Reddi et al. 2018.
struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  bool amsgrad = false;
  bool decoupled = false;
};

using OptimizerOptions = std::variant<SgdOptions, AdamOptions>;

struct OptimizerGroup {
  std::vector<std::pair<std::string, at::Tensor>> parameters;  // by name in the state dict
  double weight_decay = 0;
  double lr_scale = 1;  // factor on the schedule's rate
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // `found_inf` (float32 scalar on the device, may be null): where it is 1, nothing changes.
  void step(double lr, const at::Tensor* found_inf);
  // The slots of every parameter, by `slot/parameter` (`exp_avg/conv1.weight`); the tensors themselves.
  NamedTensors state() const;

 protected:
  // Parameters of one group that share device and dtype, with gradients and slots in the same order.
  struct Bucket {
    double lr;
    double weight_decay;
    std::vector<at::Tensor> parameters, gradients;
    std::vector<std::vector<at::Tensor>> slots;  // [slot][parameter]
  };

  struct Slot {
    std::string name;
    bool scalar = false;  // float32 scalar (a step count) instead of a tensor like the parameter
  };

  Optimizer(std::vector<OptimizerGroup> groups, std::vector<Slot> slots);
  virtual void update(const Bucket& bucket, const at::Tensor* found_inf) = 0;

 private:
  struct Entry {
    std::string name;
    at::Tensor parameter;
    std::vector<at::Tensor> slots;
  };
  struct Members {
    double weight_decay;
    double lr_scale;
    std::vector<Entry> entries;
  };

  std::vector<Slot> slots_;
  std::vector<Members> members_;
};

// Throws fornax::Error (Argument) naming the option that is out of range.
std::unique_ptr<Optimizer> makeOptimizer(const OptimizerOptions& options, std::vector<OptimizerGroup> groups);

}  // namespace fornax
