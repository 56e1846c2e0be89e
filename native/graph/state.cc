#include "graph/state.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "core/error.h"
#include "graph/init.h"

namespace fornax {

State::State(const std::vector<ParameterSpec>& parameters) : specs_(parameters) {
  tensors_.reserve(specs_.size());
  for (size_t i = 0; i < specs_.size(); ++i) {
    index_[specs_[i].name] = i;
    tensors_.push_back(at::zeros(specs_[i].shape, at::TensorOptions(specs_[i].dtype)));
  }
}

State::TrainingLease::TrainingLease(std::shared_ptr<State> state) : state_(std::move(state)) {
  if (state_->training_.exchange(true)) {
    throw Error(ErrorKind::Train, "another training session works on this model", "TrainSession",
                "dispose() of it first: one session trains a model at a time");
  }
}

int State::find(const std::string& name) const {
  auto found = index_.find(name);
  return found == index_.end() ? -1 : static_cast<int>(found->second);
}

at::Tensor State::at(size_t index) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return tensors_[index];
}

std::vector<at::Tensor> State::tensors() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return tensors_;
}

void State::replace(size_t index, at::Tensor tensor) {
  std::lock_guard<std::mutex> lock(mutex_);
  TORCH_CHECK(tensor.sizes() == tensors_[index].sizes(), "State::replace: shape of ", specs_[index].name);
  TORCH_CHECK(tensor.scalar_type() == tensors_[index].scalar_type(), "State::replace: dtype of ",
              specs_[index].name);
  tensors_[index] = std::move(tensor);
}

void State::initialize(uint64_t seed) {
  c10::NoGradGuard no_grad;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (size_t i = 0; i < specs_.size(); ++i) {
    at::Tensor target = at(i);
    // Drawn contiguous on the CPU, whatever the layout and device, so that a seed means the same model
    // everywhere.
    if (target.is_cpu() && target.is_contiguous()) {
      at::Tensor values = target.detach();
      drawInit(values, specs_[i].init, generator);
      continue;
    }
    at::Tensor drawn = at::empty(specs_[i].shape, at::TensorOptions(specs_[i].dtype));
    drawInit(drawn, specs_[i].init, generator);
    target.detach().copy_(drawn);
  }
}

}  // namespace fornax
