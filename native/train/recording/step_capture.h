// Decides when a whole step (forward, loss, backward, unscale, clip, optimizer, average) is recorded and when
// the recording is repeated instead of computing the step operator by operator. The first steps of a size are
// computed as usual: they are what a capture needs as warm-up (algorithms are measured, workspaces
// allocated), and being steps of the training they leave nothing to put back. Then one step is recorded,
// which changes nothing, and from it on all steps with inputs of the same sizes are repeated. Other sizes
// (the last batch of an epoch) are computed as usual. Lives on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/optim/schedule.h"
#include "train/options.h"
#include "train/recording/step_recording.h"
#include "train/step.h"

namespace fornax {

class StepCapture {
 public:
  using MakeRecording = std::function<std::unique_ptr<StepRecording>()>;

  // `required`: a step that cannot be recorded is an error; otherwise declined() has the reason. `step` must
  // outlive this, and its keepNumbersOnDevice() have been called.
  StepCapture(TrainStep& step, c10::Device device, MakeRecording make, bool required)
      : step_(step), device_(device), make_(std::move(make)), required_(required) {}

  // One step on these micro-batches: repeated, and its loss returned. Nothing if it has to be computed as
  // usual, which is left to the caller; then `inputs` are as they were. `compute` is the device's part of a
  // step and returns the loss, a scalar; it takes its inputs from TrainStep::prepare(). `begin` is the host's
  // part.
  std::optional<at::Tensor> repeat(std::vector<StepInputs>& inputs, const std::function<void()>& begin,
                                   const std::function<at::Tensor()>& compute);

  // Lets go of the recording and its memory; steps may be recorded again. False if there was none.
  bool forget();
  // No more recording, for this reason. Throws it, as a DeviceError, where recording is required.
  void decline(const std::string& reason);
  const std::string& declined() const { return declined_; }
  // The reason, the first time it is asked for; else empty.
  std::string news() { return std::exchange(news_, {}); }

  // Steps repeated so far. check() compares it with a count that the device kept, and waits for it.
  int64_t repeated() const { return repeated_; }
  void check() const;

 private:
  // Sizes, strides and dtypes of everything a step reads.
  using Sizes = std::vector<int64_t>;
  struct Recorded {
    std::unique_ptr<StepRecording> recording;
    std::shared_ptr<const Graph> graph;  // whose steps these are
    Sizes sizes;
    std::vector<StepInputs> inputs;
    at::Tensor loss;
    std::vector<at::Tensor> gradients;
  };

  static Sizes sizesOf(const std::vector<StepInputs>& inputs);
  bool isTime(const Sizes& sizes);
  void record(const std::vector<StepInputs>& inputs, const Sizes& sizes,
              const std::function<at::Tensor()>& compute);

  TrainStep& step_;
  const c10::Device device_;
  const MakeRecording make_;
  const bool required_;
  std::optional<Recorded> recorded_;
  Sizes seen_;        // of the last step that was not repeated
  int64_t run_ = 0;   // such steps of the same sizes one after another
  int64_t runs_ = 0;  // how often the sizes changed before there was a recording
  std::string declined_, news_;
  int64_t repeated_ = 0;
  at::Tensor counter_;  // the device's count
};

// As the options say; null where steps are not to be recorded. Where they cannot be, it has declined already,
// or ArgumentError or DeviceError is thrown if that was required. Numbers that move are on the device from
// then on.
std::unique_ptr<StepCapture> makeStepCapture(TrainStep& step, const TrainOptions& options,
                                             const Schedule& schedule);

}  // namespace fornax
