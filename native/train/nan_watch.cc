#include "train/nan_watch.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fornax {

namespace {

// A scale that begins at 65536 has come down to 2^-34 by then.
constexpr int64_t kMostSkipped = 50;

}  // namespace

NanWatch::NanWatch(const NanWatchOptions& options, c10::Device device, const GradScaler* scaler)
    : options_(options), scaler_(scaler) {
  if (options.gradients_every < 1) {
    throw Error(ErrorKind::Argument, "nan_watch: gradients_every must be at least 1",
                "nan_watch.gradients_every");
  }
  flag_ = at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(device));
  if (scaler_) skipped_before_ = scaler_->skipped().item<double>();
}

std::optional<NonFinite> NanWatch::look(int64_t step, const at::Tensor& loss, const at::Tensor& norm) {
  if (scaler_)
    return collapsed(step, scaler_->foundInf().item<double>() > 0, 1, scaler_->scale().item<double>());
  const double value = loss.item<double>();
  if (!std::isfinite(value)) return NonFinite{NonFinite::What::Loss, step, value};
  if (!norm.defined()) return std::nullopt;
  const double length = norm.item<double>();
  if (!std::isfinite(length)) return NonFinite{NonFinite::What::Gradient, step, length};
  return std::nullopt;
}

void NanWatch::raise(const at::Tensor& loss, const at::Tensor& norm) {
  if (scaler_) return;
  const c10::NoGradGuard no_grad;
  const auto raised = [](const at::Tensor& value) { return at::isfinite(value.reshape({})).logical_not(); };
  flag_.copy_(at::maximum(flag_, raised(loss).to(at::kFloat)));
  if (norm.defined()) flag_.copy_(at::maximum(flag_, raised(norm).to(at::kFloat)));
}

void NanWatch::clearFlag() {
  flag_.zero_();
  skipped_in_a_row_ = 0;
}

std::optional<NonFinite> NanWatch::collapsed(int64_t step, bool skipped, int64_t steps, double scale) {
  skipped_in_a_row_ = skipped ? skipped_in_a_row_ + steps : 0;
  if (skipped_in_a_row_ < kMostSkipped) return std::nullopt;
  return NonFinite{NonFinite::What::Scale, step, scale};
}

std::optional<NonFinite> NanWatch::inspect(StepsEvent& event) {
  const auto count = static_cast<int64_t>(event.losses.size());
  if (scaler_) {
    if (!event.skipped) return std::nullopt;
    const bool all = *event.skipped - skipped_before_ >= static_cast<double>(count) && count > 0;
    skipped_before_ = *event.skipped;
    return collapsed(event.step, all, count, event.scale.value_or(0));
  }
  const auto bad = std::find_if(event.losses.begin(), event.losses.end(),
                                [](double loss) { return !std::isfinite(loss); });
  if (bad == event.losses.end()) return std::nullopt;
  const auto good = static_cast<int64_t>(bad - event.losses.begin());
  const NonFinite fault{NonFinite::What::Loss, event.step - count + good + 1, *bad};
  event.samples = event.samples * good / count;
  event.losses.resize(static_cast<size_t>(good));
  event.step = fault.step - 1;
  return fault;
}

}  // namespace fornax
