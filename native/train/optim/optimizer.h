// Optimizers: update the parameters of a model in place from their gradients. A subclass declares the tensors
// it keeps per parameter (its slots: momentum, second moments, step counts) and updates one bucket at a time,
// that is parameters of one group, device and dtype, as the fused operators demand. Parameters without a
// gradient are left alone, their step count included. Lives on the session's thread; gradient recording must
// be off.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "train/optim/number.h"

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

// Hinton 2012 (Coursera lecture 6), as torch.optim.RMSprop.
struct RmsPropOptions {
  double alpha = 0.99;
  double eps = 1e-8;
  double momentum = 0;
  bool centered = false;
};

// Duchi et al. 2011, as torch.optim.Adagrad.
struct AdagradOptions {
  double lr_decay = 0;
  double initial_accumulator = 0;
  double eps = 1e-10;
};

// Liu et al. 2020, as torch.optim.RAdam.
struct RAdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  bool decoupled = false;
};

// Dozat 2016, as torch.optim.NAdam.
struct NAdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double momentum_decay = 4e-3;
  bool decoupled = false;
};

// Chen et al. 2023, as timm's Lion.
struct LionOptions {
  double beta1 = 0.9;
  double beta2 = 0.99;
};

// You et al. 2020, as timm's Lamb: the gradient of the whole model is clipped to `max_grad_norm` first, and
// the rate adapts only where there is weight decay, unless `always_adapt`.
struct LambOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-6;
  std::optional<double> max_grad_norm = 1.0;
  bool bias_correction = true;
  bool grad_averaging = true;
  bool trust_clip = false;
  bool always_adapt = false;
  bool decoupled = false;
};

// You et al. 2017, as timm's Lars.
struct LarsOptions {
  double momentum = 0;
  bool nesterov = false;
  double trust_coeff = 0.001;
  double eps = 1e-8;
  bool trust_clip = false;
  bool always_adapt = false;
};

using OptimizerOptions = std::variant<SgdOptions, AdamOptions, RmsPropOptions, AdagradOptions, RAdamOptions,
                                      NAdamOptions, LionOptions, LambOptions, LarsOptions>;

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

  // From now on step() reads the rate from the device, where setRateOnDevice() puts it before; and
  // `momentum`: also what setMomentum() says. A recorded step then follows the schedule.
  void keepNumbersOnDevice(c10::Device device, bool momentum);
  bool hasRateOnDevice() const { return rate_.defined(); }
  void setRateOnDevice(double lr);
  // Momentum, or the first beta, from the next step on. False if the optimizer has none.
  bool setMomentum(double momentum);
  // The slots of every parameter, by `slot/parameter` (`exp_avg/conv1.weight`); the tensors themselves.
  NamedTensors state() const;

 protected:
  // Parameters of one group that share device and dtype, with gradients and slots in the same order.
  struct Bucket {
    double lr;
    double weight_decay;
    std::vector<at::Tensor> parameters, gradients;
    std::vector<std::vector<at::Tensor>> slots;  // [slot][parameter]
    at::Tensor rate;                             // `lr` as a scalar on the device, if it is kept there
  };

  struct Slot {
    std::string name;
    bool scalar = false;  // float32 scalar (a step count) instead of a tensor like the parameter
    double initial = 0;
  };

  Optimizer(std::vector<OptimizerGroup> groups, std::vector<Slot> slots);
  virtual void update(const Bucket& bucket, const at::Tensor* found_inf) = 0;
  // Before the buckets of a step: the gradients of all parameters.
  virtual void prepare(const std::vector<at::Tensor>& gradients) {}
  // setMomentum(), as far as the host is concerned.
  virtual bool takeMomentum(double momentum) { return false; }
  bool hasMomentumOnDevice() const { return momentum_.defined(); }
  // The momentum to compute with, of which the host has `known`.
  Number momentum(double known) const { return hasMomentumOnDevice() ? Number(momentum_) : Number(known); }

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

  at::Tensor rateOnDevice(double scale) const;

  std::vector<Slot> slots_;
  std::vector<Members> members_;
  at::Tensor rate_, momentum_;  // float64 scalars on the device, or undefined
};

// Throws fornax::Error (Argument) naming the option that is out of range.
std::unique_ptr<Optimizer> makeOptimizer(const OptimizerOptions& options, std::vector<OptimizerGroup> groups);

}  // namespace fornax
