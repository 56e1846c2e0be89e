// The part of a training session that watches for numbers that are not finite, and finds where they come
// from.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>
#include <utility>

#include "core/error.h"
#include "dist/process_group.h"
#include "train/forward_state.h"
#include "train/session.h"

namespace fornax {

void TrainSession::makeWatch() {
  if (!options_.nan_watch) return;
  watch_ = std::make_unique<NanWatch>(*options_.nan_watch, options_.device, step_->scaler());
  late_ = !options_.device.is_cpu() || capture_ != nullptr;
  if (late_) step_->guardUpdates(watch_->flag());
  if (!options_.nan_watch->anomaly) return;
  if (capture_) capture_->decline("nan_watch.anomaly looks at every node");
  anomaly_ = std::make_unique<NodeInspector>();
  step_->inspect(anomaly_.get());
}

// All processes see the same loss and the same gradients; what single nodes gave each has to itself.
std::optional<NonFinite> TrainSession::foundNonFinite(const at::Tensor& loss, at::Tensor norm, bool last) {
  if (!watch_) return std::nullopt;
  std::optional<NonFinite> fault;
  if (anomaly_) {
    const bool saw = anomaly_->sawNan();
    if (options_.group ? options_.group->any(saw) : saw) {
      fault = NonFinite{NonFinite::What::Node, step_count_ + 1, loss.item<double>()};
    }
  }
  if (!fault && !late_) {
    if (!norm.defined() && watch_->wantsNorm(step_count_ + 1, last)) norm = step_->gradientNorm();
    if (norm.defined()) norm_seen_ = step_count_;
    fault = watch_->look(step_count_ + 1, loss, norm);
  }
  if (fault) undoStep();
  return fault;
}

void TrainSession::requireFinite(const at::Tensor& loss, const at::Tensor& norm) {
  const auto fault = foundNonFinite(loss, norm, true);
  if (!fault) return;
  const std::string step = " at step " + std::to_string(fault->step);
  const std::string fix = "call diagnose() with the same batch, or set nan_watch.anomaly";
  switch (fault->what) {
    case NonFinite::What::Loss:
      throw Error(ErrorKind::Train, "the loss is not finite" + step, "loss", fix);
    case NonFinite::What::Gradient:
      throw Error(ErrorKind::Train, "the gradients are not finite" + step, "gradients", fix);
    case NonFinite::What::Node:
      throw Error(ErrorKind::Train, "a result is not a number" + step, anomaly_->finding().node,
                  "what goes into it is finite, unless it is named itself");
    case NonFinite::What::Scale:
      throw Error(ErrorKind::Train, "the gradient scaler has skipped many steps in a row" + step, "scaler",
                  "train in bf16 or fp32, or lower the learning rate");
  }
}

void TrainSession::undoStep() {
  micro_batches_->putBack();
  step_->clearGradients();
  watch_->clearFlag();
  norm_seen_ = -1;
}

void TrainSession::finishWatch(RunResult& result) {
  if (!watch_) return;
  if (!result.fault && result.steps > 0 && !step_->scaler() && norm_seen_ != step_count_ - 1) {
    // Nothing may be kept of weights that the last updates have spoilt.
    if (!step_->weightsAreFinite()) {
      result.fault = NonFinite{NonFinite::What::Gradient, step_count_, NAN, true};
    }
  }
  if (!result.fault) return;
  result.reason = RunResult::Reason::NotFinite;
  if (anomaly_) result.finding = anomaly_->finding();
  if (!late_ || result.fault->applied || result.fault->what == NonFinite::What::Scale) return;
  // The flag has kept all updates since from the weights.
  const int64_t undone = step_count_ - (result.fault->step - 1);
  result.steps -= undone;
  step_count_ = result.fault->step - 1;
  undoStep();
}

void TrainSession::diagnose(std::shared_ptr<const Graph> graph, std::shared_ptr<BatchSource> source,
                            std::function<void(Finding)> on_done, OnFailed on_failed) {
  claim();
  const bool posted =
      thread_.post([this, graph = std::move(graph), source = std::move(source), on_done = std::move(on_done),
                    on_failed = std::move(on_failed)]() mutable {
        Finding finding;
        std::exception_ptr failure;
        try {
          step_->useGraph(std::move(graph));
          finding = diagnoseStep(*source);
        } catch (...) {
          failure = std::current_exception();
        }
        step_->inspect(anomaly_.get());
        step_->clearGradients();
        source.reset();
        busy_ = false;
        failure ? on_failed(failure) : on_done(std::move(finding));
      });
  refuseIfClosed(posted);
}

Finding TrainSession::diagnoseStep(BatchSource& source) {
  const c10::OptionalDeviceGuard guard(options_.device.is_cpu() ? std::nullopt
                                                                : std::optional(options_.device));
  ForwardState before(step_->writtenBuffers(), step_->generator());
  before.save();
  NodeInspector inspector;
  step_->inspect(&inspector);
  step_->give({});
  step_->clearGradients();
  step_->beginStep(step_count_);
  for (int64_t i = 0; i < options_.grad_accum; ++i) {
    Batch batch;
    if (!source.next(batch, abort_)) break;
    // Never the last one, with which the exchange of several processes begins.
    micro_batches_->accumulate(batch, 1.0 / static_cast<double>(options_.grad_accum), /*last=*/false);
  }
  before.putBack();
  return inspector.finding();
}

}  // namespace fornax
