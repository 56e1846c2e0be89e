#include "train/nan_guard.h"

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "dist/process_group.h"

namespace fornax {

NanGuard::NanGuard(TrainStep& step, MicroBatches& micro_batches, StepCapture* capture,
                   const TrainOptions& options)
    : step_(step), micro_batches_(micro_batches), group_(options.group) {
  if (!options.nan_watch) return;
  watch_ = std::make_unique<NanWatch>(*options.nan_watch, options.device, step_.scaler());
  late_ = !options.device.is_cpu() || capture != nullptr;
  if (late_) step_.guardUpdates(watch_->flag());
  if (!options.nan_watch->anomaly) return;
  if (capture) capture->decline("nan_watch.anomaly looks at every node");
  inspector_ = std::make_unique<NodeInspector>();
  step_.inspect(inspector_.get());
}

void NanGuard::beginAttempt() {
  if (inspector_) inspector_->reset();
}

void NanGuard::raise(const at::Tensor& loss, const at::Tensor& norm) {
  if (late_) watch_->raise(loss, norm);
}

// All processes see the same loss and the same gradients; what single nodes gave each has to itself.
std::optional<NonFinite> NanGuard::look(int64_t done, const at::Tensor& loss, at::Tensor norm, bool last) {
  if (!watch_) return std::nullopt;
  std::optional<NonFinite> fault;
  if (inspector_) {
    const bool saw = inspector_->sawNan();
    if (group_ ? group_->any(saw) : saw) {
      fault = NonFinite{NonFinite::What::Node, done + 1, loss.item<double>()};
    }
  }
  if (!fault && !late_) {
    if (!norm.defined() && watch_->wantsNorm(done + 1, last)) norm = step_.trained().gradientNorm();
    if (norm.defined()) norm_seen_ = done;
    fault = watch_->look(done + 1, loss, norm);
  }
  if (fault) undoStep();
  return fault;
}

void NanGuard::require(int64_t done, const at::Tensor& loss, const at::Tensor& norm) {
  const auto fault = look(done, loss, norm, true);
  if (!fault) return;
  const std::string step = " at step " + std::to_string(fault->step);
  const std::string fix = "call diagnose() with the same batch, or set nan_watch.anomaly";
  switch (fault->what) {
    case NonFinite::What::Loss:
      throw Error(ErrorKind::Train, "the loss is not finite" + step, "loss", fix);
    case NonFinite::What::Gradient:
      throw Error(ErrorKind::Train, "the gradients are not finite" + step, "gradients", fix);
    case NonFinite::What::Node:
      throw Error(ErrorKind::Train, "a result is not a number" + step, inspector_->finding().node,
                  "what goes into it is finite, unless it is named itself");
    case NonFinite::What::Scale:
      throw Error(ErrorKind::Train, "the gradient scaler has skipped many steps in a row" + step, "scaler",
                  "train in bf16 or fp32, or lower the learning rate");
  }
}

std::optional<NonFinite> NanGuard::inspect(StepsEvent& event) {
  return late_ ? watch_->inspect(event) : std::nullopt;
}

std::optional<NonFinite> NanGuard::lookAtWeights(int64_t steps, int64_t done) const {
  if (!watch_ || steps == 0 || step_.scaler() || norm_seen_ == done - 1) return std::nullopt;
  // Nothing may be kept of weights that the last updates have spoilt.
  if (step_.trained().areFinite()) return std::nullopt;
  return NonFinite{NonFinite::What::Gradient, done, NAN, true};
}

int64_t NanGuard::takeBack(const NonFinite& fault, int64_t done) {
  if (!late_ || fault.applied || fault.what == NonFinite::What::Scale) return 0;
  undoStep();
  return done - (fault.step - 1);
}

void NanGuard::undoStep() {
  micro_batches_.putBack();
  step_.clearGradients();
  watch_->clearFlag();
  norm_seen_ = -1;
}

}  // namespace fornax
