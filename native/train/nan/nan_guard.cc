#include "train/nan/nan_guard.h"

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
  if (late_) step_.guardUpdates(&watch_->flag());
  if (!options.nan_watch->anomaly) return;
  if (capture) capture->decline("nan_watch.anomaly looks at every node");
  inspector_ = std::make_unique<NodeInspector>();
  step_.inspect(inspector_.get());
}

void NanGuard::beginRun(int64_t done) {
  if (!late_) return;
  watch_->beginRun(done);
  generators_.clear();
}

std::vector<at::Tensor> NanGuard::counts() const {
  return late_ ? watch_->counts() : std::vector<at::Tensor>();
}

void NanGuard::beginAttempt(int64_t done) {
  if (inspector_) inspector_->reset();
  if (!late_) return;
  if (generators_.empty() || done < oldest_) {
    generators_.clear();
    oldest_ = done;
  }
  generators_.resize(static_cast<size_t>(done - oldest_));  // without that of an attempt that failed
  generators_.push_back(step_.generator().get_state());
}

void NanGuard::raise(const at::Tensor& loss, at::Tensor norm) {
  if (!late_) return;
  if (!norm.defined() && !step_.scaler()) norm = step_.trained().gradientNorm();
  watch_->raise(loss, norm);
  micro_batches_.putBackBuffersWhere(watch_->skipped());
  watch_->count();
}

at::Tensor NanGuard::normToLookAt(int64_t done, const at::Tensor& norm) const {
  if (!watch_ || late_ || norm.defined() || !watch_->wantsNorm(done + 1, false)) return norm;
  return step_.trained().gradientNorm();
}

// All processes see the same loss and the same gradients; what single nodes gave each has to itself.
std::optional<NonFinite> NanGuard::nodeSeen(int64_t done, const at::Tensor& loss) {
  if (!inspector_) return std::nullopt;
  bool saw = inspector_->sawNan();
  if (saw && step_.scaler() && step_.scaler()->foundInf().item<double>() > 0) {
    // Gradients that overflow are the scaler's affair.
    const Finding::Phase phase = inspector_->finding().phase;
    saw = phase != Finding::Phase::Backward && phase != Finding::Phase::Gradient;
  }
  if (!(group_ ? group_->any(saw) : saw)) return std::nullopt;
  return NonFinite{NonFinite::What::Node, done + 1, loss.item<double>()};
}

std::optional<NonFinite> NanGuard::lookNow(int64_t done, const at::Tensor& loss, at::Tensor norm, bool last) {
  if (!norm.defined() && watch_->wantsNorm(done + 1, last)) norm = step_.trained().gradientNorm();
  auto fault = watch_->look(done + 1, loss, norm);
  if (fault) return fault;
  if (!step_.scaler()) {
    unseen_ = !norm.defined();
  } else if (step_.scaler()->foundInf().item<double>() > 0) {
    micro_batches_.putBackBuffers();
  }
  return std::nullopt;
}

std::optional<NonFinite> NanGuard::look(int64_t done, const at::Tensor& loss, at::Tensor norm, bool last) {
  if (!watch_) return std::nullopt;
  auto fault = nodeSeen(done, loss);
  if (!fault && !late_) fault = lookNow(done, loss, std::move(norm), last);
  if (!fault) return std::nullopt;
  undoStep();
  const auto earlier = lookAtWeights(done);
  return earlier ? earlier : fault;
}

void NanGuard::require(int64_t done, const at::Tensor& loss, const at::Tensor& norm) {
  if (!watch_) return;
  auto fault = nodeSeen(done, loss);
  if (!fault) fault = lookNow(done, loss, norm, true);
  if (!fault) return;
  undoStep();
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
  if (!late_) return std::nullopt;
  const auto fault = watch_->inspect(event);
  while (!fault && !generators_.empty() && oldest_ < event.step) {
    generators_.pop_front();
    ++oldest_;
  }
  return fault;
}

std::optional<NonFinite> NanGuard::lookAtWeights(int64_t done) const {
  // Nothing may be kept of weights that the last updates have spoilt.
  if (!unseen_ || step_.trained().areFinite()) return std::nullopt;
  return NonFinite{NonFinite::What::Gradient, done, NAN, true};
}

int64_t NanGuard::takeBack(const NonFinite& fault, int64_t done) {
  if (!late_ || fault.applied || fault.what == NonFinite::What::Scale) return 0;
  if (fault.step > done) return 0;  // a node that was seen: that step is undone already
  undoStep();
  const auto place = static_cast<size_t>(fault.step - 1 - oldest_);
  if (place < generators_.size()) step_.generator().set_state(generators_[place]);
  step_.takeBack(fault.step, done);
  return done - (fault.step - 1);
}

void NanGuard::undoStep() {
  micro_batches_.putBack();
  step_.clearGradients();
  if (late_) watch_->clearFlag();
}

}  // namespace fornax
