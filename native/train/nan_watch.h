// Watches losses and gradients of a training for numbers that are not finite, so that they do not reach the
// weights. On the CPU the host looks before the optimizer does. On a GPU, and in steps that are repeated from
// a recording, nobody waits: a flag on the device makes the optimizer skip this and all later updates (as a
// gradient scaler's does), and the host finds out when the losses arrive. Used on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>

#include "train/nan_watch_options.h"
#include "train/scaler.h"
#include "train/step_recorder.h"

namespace fornax {

struct NonFinite {
  enum class What : uint8_t { Loss, Gradient, Node, Scale };
  What what = What::Loss;
  int64_t step = 0;      // the one that was not done, counted from 1
  double value = 0;      // of the loss, the norm of the gradients, or the scale
  bool applied = false;  // too late: the weights have it
};

class NanWatch {
 public:
  // `scaler` may be null; it skips bad steps itself, and only many of them in a row are a fault.
  NanWatch(const NanWatchOptions& options, c10::Device device, const GradScaler* scaler);

  // Whether this step's gradients are to be looked at although no norm is at hand.
  bool wantsNorm(int64_t step, bool last) const {
    return !scaler_ && (last || step % options_.gradients_every == 0);
  }
  // Reads loss and norm (may be undefined), of step `step` (from 1). On the CPU.
  std::optional<NonFinite> look(int64_t step, const at::Tensor& loss, const at::Tensor& norm);

  // Raises the flag if loss or norm (may be undefined) are not finite. Without waiting for the device.
  void raise(const at::Tensor& loss, const at::Tensor& norm);
  // float32 scalar on the device: 1 from the first bad step on. Null with a scaler.
  const at::Tensor* flag() const { return scaler_ ? nullptr : &flag_; }
  void clearFlag();

  // Takes everything from the first bad step on out of an event of steps whose losses were not looked at
  // before.
  std::optional<NonFinite> inspect(StepsEvent& event);

 private:
  std::optional<NonFinite> collapsed(int64_t step, bool skipped, int64_t steps, double scale);

  NanWatchOptions options_;
  const GradScaler* scaler_;
  at::Tensor flag_;
  int64_t skipped_in_a_row_ = 0;
  double skipped_before_ = 0;
};

}  // namespace fornax
