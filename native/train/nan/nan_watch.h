// Watches losses and gradients of a training for numbers that are not finite, so that they do not reach the
// weights. On the CPU the host looks before the optimizer does. On a GPU, and in steps that are repeated from
// a recording, nobody waits: a flag on the device makes this update and all later ones change nothing, and
// the host finds out when the losses arrive, with the count of the steps before it. Used on the session's
// thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "train/nan/nan_watch_options.h"
#include "train/optim/scaler.h"
#include "train/recording/step_recorder.h"

namespace fornax {

struct NonFinite {
  enum class What : uint8_t { Loss, Gradient, Node, Scale };
  What what = What::Loss;
  int64_t step = 0;      // the one that was not done, counted from 1
  double value = 0;      // of the loss, the norm of the gradients, or the scale
  bool applied = false;  // too late: it was done, and the weights have it
};

class NanWatch {
 public:
  // `scaler` may be null; it skips steps whose gradients are not finite itself, and only many of them in a
  // row are a fault. A loss that is not finite before it is scaled is one at once: no scale can help.
  NanWatch(const NanWatchOptions& options, c10::Device device, GradScaler* scaler);

  // Whether this step's gradients are to be looked at although no norm is at hand.
  bool wantsNorm(int64_t step, bool last) const {
    return !scaler_ && (last || step % options_.gradients_every == 0);
  }
  // Reads loss and norm (may be undefined), of step `step` (from 1). Waits for the device.
  std::optional<NonFinite> look(int64_t step, const at::Tensor& loss, const at::Tensor& norm);

  // Before the steps of a run, after `done` steps in all: no flag is raised, and steps are counted from here.
  void beginRun(int64_t done);
  // Raises the flag if loss or norm (may be undefined) are not finite. Does not wait.
  void raise(const at::Tensor& loss, const at::Tensor& norm);
  // Once per step, after raise(), which may have been called for several attempts. Does not wait.
  void count();
  // float32 scalar on the device: 1 from the first bad step on.
  const at::Tensor& flag() const { return flag_; }
  // 1 also where the scaler skips this step alone.
  at::Tensor skipped() const { return scaler_ ? at::maximum(flag_, scaler_->foundInf()) : flag_; }
  void clearFlag() { flag_.zero_(); }

  // What inspect() needs to know with an event (StepsEvent::counts).
  std::vector<at::Tensor> counts() const;
  // Takes everything from the first bad step on out of an event of steps that were not looked at before.
  std::optional<NonFinite> inspect(StepsEvent& event);

 private:
  std::optional<NonFinite> collapsed(int64_t step, double skipped_in_a_row, double scale);

  NanWatchOptions options_;
  GradScaler* scaler_;
  at::Tensor flag_;
  at::Tensor good_;      // steps of this run before the flag was raised, float32 scalar on the device
  at::Tensor bad_norm_;  // of the gradients of the step that raised it
  int64_t begin_ = 0;    // steps before this run
};

}  // namespace fornax
