// Numbers that optimizers compute with and a schedule may move: the host's, or scalars on the device, where
// recorded steps find what the schedule has put there. On the CPU both kinds give the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace fornax {

class Number {
 public:
  explicit Number(double value) : value_(value) {}
  // A float64 scalar.
  explicit Number(at::Tensor on_device) : on_device_(std::move(on_device)) {}

  bool isOnDevice() const { return on_device_.defined(); }
  // Only where it is not on the device.
  double value() const { return value_; }
  // Either kind, as a float64 scalar on the device of `like`.
  at::Tensor tensor(const at::Tensor& like) const;

 private:
  double value_ = 0;
  at::Tensor on_device_;
};

// tensor ← factor · tensor
void scaleBy(const std::vector<at::Tensor>& tensors, const Number& factor);

// tensor ← tensor + (1 − keep) · (end − tensor): a running average that keeps this share of itself.
void averageIn(const std::vector<at::Tensor>& tensors, const std::vector<at::Tensor>& ends,
               const Number& keep);

// The same, as new tensors.
std::vector<at::Tensor> averaged(const std::vector<at::Tensor>& tensors, const std::vector<at::Tensor>& ends,
                                 const Number& keep);

// tensor ← tensor + factor · other, with `factor` a scalar on the device of the tensors.
void addScaled(const std::vector<at::Tensor>& tensors, const std::vector<at::Tensor>& others,
               const at::Tensor& factor);

// tensor ← tensor + factor · numerator / denominator
void addQuotients(const std::vector<at::Tensor>& tensors, const std::vector<at::Tensor>& numerators,
                  const std::vector<at::Tensor>& denominators, const Number& factor);

// gradient + momentum · buffer: where Nesterov's momentum looks.
std::vector<at::Tensor> ahead(const std::vector<at::Tensor>& gradients,
                              const std::vector<at::Tensor>& buffers, const Number& momentum);

}  // namespace fornax
