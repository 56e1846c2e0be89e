#include "train/recording/step_capture.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <exception>
#include <utility>

#include "core/error.h"
#include "device/memory.h"
#include "device/out_of_memory.h"

namespace fornax {

namespace {

// As torch.cuda.make_graphed_callables: three are enough where one process trains alone.
constexpr int64_t kWarmUp = 3;
// Steps of another size one after another, after which they are recorded instead: one last batch of each
// epoch must not throw the recording away, a micro-batch that was halved for good must.
constexpr int64_t kChanged = 16;
// Sizes that changed this often before anything could be recorded will go on changing.
constexpr int64_t kRestless = 32;

template <typename Function>
void forEachTensor(std::vector<StepInputs>& inputs, const Function& function) {
  for (StepInputs& each : inputs) {
    for (at::Tensor& tensor : each.model) function(tensor);
    for (auto& [name, tensor] : each.loss.fields) function(tensor);
  }
}

}  // namespace

StepCapture::Sizes StepCapture::sizesOf(const std::vector<StepInputs>& inputs) {
  Sizes sizes;
  const auto add = [&](const at::Tensor& tensor) {
    sizes.push_back(tensor.dim());
    sizes.push_back(static_cast<int64_t>(tensor.scalar_type()));
    sizes.insert(sizes.end(), tensor.sizes().begin(), tensor.sizes().end());
    sizes.insert(sizes.end(), tensor.strides().begin(), tensor.strides().end());
  };
  for (const StepInputs& each : inputs) {
    sizes.push_back(-1);
    for (const at::Tensor& tensor : each.model) add(tensor);
    for (const auto& [name, tensor] : each.loss.fields) add(tensor);
  }
  return sizes;
}

bool StepCapture::isTime(const Sizes& sizes) {
  if (sizes != seen_) {
    seen_ = sizes;
    run_ = 0;
    if (!recorded_ && ++runs_ > kRestless) {
      decline("the sizes of the batches change from step to step");
      return false;
    }
  }
  return run_++ >= (recorded_ ? kChanged : kWarmUp);
}

std::optional<at::Tensor> StepCapture::repeat(std::vector<StepInputs>& inputs,
                                              const std::function<void()>& begin,
                                              const std::function<at::Tensor()>& compute) {
  if (!declined_.empty()) return std::nullopt;
  if (recorded_ && recorded_->graph != step_.sharedGraph()) forget();
  const Sizes sizes = sizesOf(inputs);
  if (!recorded_ || recorded_->sizes != sizes) {
    if (!isTime(sizes)) return std::nullopt;
    forget();
    record(inputs, sizes, compute);
    if (!recorded_) return std::nullopt;
  }
  const c10::NoGradGuard no_grad;
  run_ = 0;
  std::vector<at::Tensor> to, from;
  forEachTensor(recorded_->inputs, [&](at::Tensor& tensor) { to.push_back(tensor); });
  forEachTensor(inputs, [&](at::Tensor& tensor) { from.push_back(tensor); });
  for (size_t i = 0; i < to.size(); ++i) to[i].copy_(from[i]);
  // A copy, as the next step writes to the same place. Allocated first: where memory runs out here, the step
  // has not begun.
  const at::Tensor loss = at::empty_like(recorded_->loss);
  begin();
  try {
    recorded_->recording->replay();
  } catch (...) {
    step_.takeBackUpdate();
    throw;
  }
  ++repeated_;
  step_.trained().setGradients(recorded_->gradients);
  return loss.copy_(recorded_->loss);
}

void StepCapture::record(const std::vector<StepInputs>& inputs, const Sizes& sizes,
                         const std::function<at::Tensor()>& compute) {
  for (const Graph* graph : {&step_.graph(), &step_.lossGraph()}) {
    if (const std::string obstacle = recordingObstacle(*graph); !obstacle.empty()) return decline(obstacle);
  }
  if (!counter_.defined()) {
    counter_ = at::zeros({}, at::TensorOptions().dtype(at::kLong).device(device_));
    counter_.add_(0);  // every kernel is loaded before it is recorded
  }
  Recorded recorded{make_(), step_.sharedGraph(), sizes, inputs, {}, {}};
  std::string reason;
  try {
    {
      const c10::NoGradGuard no_grad;
      forEachTensor(recorded.inputs,
                    [](at::Tensor& tensor) { tensor = tensor.clone(at::MemoryFormat::Preserve); });
    }
    step_.clearGradients();  // so that they lie in memory of the recording
    // A recording has memory of its own, and while there is one nothing that is cached can be let go of for
    // it: what the steps before it leave unused would be in its way.
    if (!device_.is_cpu()) releaseCachedMemory(device_);
    recorded.recording->record([&] {
      step_.give(recorded.inputs);
      recorded.loss = compute();
      const c10::NoGradGuard no_grad;
      counter_.add_(1);
    });
    recorded.gradients = step_.trained().gradients();
    recorded_ = std::move(recorded);
  } catch (const OutOfMemoryError& error) {
    reason = error.what();
  } catch (const Error& error) {
    if (error.kind == ErrorKind::Aborted) throw;
    reason = error.what();
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  step_.give({});
  step_.clearGradients();
  // What the failed attempt holds goes before the step is computed as usual.
  recorded = {};
  if (!reason.empty()) decline("a step cannot be recorded: " + reason);
}

bool StepCapture::forget() {
  const bool held = recorded_.has_value();
  recorded_.reset();
  seen_.clear();
  run_ = 0;
  return held;
}

void StepCapture::decline(const std::string& reason) {
  forget();
  declined_ = news_ = reason;
  if (!required_) return;
  throw Error(ErrorKind::Device, "CUDA graphs cannot be used: " + reason, "train.cuda_graphs",
              "set cuda_graphs to auto or off");
}

void StepCapture::check() const {
  if (!counter_.defined()) return;
  const auto counted = counter_.item<int64_t>();
  if (counted == repeated_) return;
  throw Error(ErrorKind::Execution,
              std::to_string(repeated_) + " steps were to be repeated on the device, and it counted " +
                  std::to_string(counted),
              "CUDA graphs", "report this, and set cuda_graphs to off");
}

std::unique_ptr<StepCapture> makeStepCapture(TrainStep& step, const TrainOptions& options,
                                             const Schedule& schedule) {
  const bool required = options.cuda_graphs == CudaGraphs::On;
  if (options.cuda_graphs == CudaGraphs::Off) return nullptr;
  if (!options.device.is_cuda() && !options.tape) {
    if (!required) return nullptr;
    throw Error(ErrorKind::Argument, "CUDA graphs need a CUDA device, and this is " + options.device.str(),
                "train.cuda_graphs", "set cuda_graphs to auto or off");
  }
  const auto make = [&step, device = options.device] { return makeRecording(device, step.generator()); };
  auto capture = std::make_unique<StepCapture>(step, options.device, make, required);
  if (const std::string obstacle = step.recordingObstacle(); !obstacle.empty())
    capture->decline(obstacle);
  else
    step.keepNumbersOnDevice(schedule.momentum(0).has_value());
  return capture;
}

}  // namespace fornax
