// The tensors of a model, in the order of its state dict. Shared by the handles and sessions of one model;
// a session that trains moves them to its device and changes them in place. The list itself is guarded by a
// mutex; what the tensors contain belongs to whoever is running.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/spec.h"

namespace fornax {

class State {
 public:
  // One training session at a time: it replaces the tensors by its own layout and marks them for autograd.
  class TrainingLease {
   public:
    // TrainError if another session trains this state.
    explicit TrainingLease(std::shared_ptr<State> state);
    ~TrainingLease() { state_->training_ = false; }
    TrainingLease(const TrainingLease&) = delete;
    TrainingLease& operator=(const TrainingLease&) = delete;

   private:
    std::shared_ptr<State> state_;
  };

  // Allocates every tensor (CPU, contiguous) as zeros.
  explicit State(const std::vector<ParameterSpec>& parameters);

  size_t size() const { return specs_.size(); }
  const std::vector<ParameterSpec>& specs() const { return specs_; }
  // -1 if there is none.
  int find(const std::string& name) const;
  at::Tensor at(size_t index) const;
  std::vector<at::Tensor> tensors() const;
  // Replaces a tensor by one of the same shape and dtype (another device or memory format).
  void replace(size_t index, at::Tensor tensor);
  // Draws all of them, in order, from one generator seeded with `seed`.
  void initialize(uint64_t seed);

 private:
  std::vector<ParameterSpec> specs_;
  std::unordered_map<std::string, size_t> index_;
  mutable std::mutex mutex_;
  std::vector<at::Tensor> tensors_;
  std::atomic<bool> training_{false};
};

}  // namespace fornax
