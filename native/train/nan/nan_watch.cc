#include "train/nan/nan_watch.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fornax {

namespace {

// Skipped steps in a row that count as a fault: a scale of 65536 has come down to 2^-34 by then.
constexpr double kMostSkipped = 50;

}  // namespace

NanWatch::NanWatch(const NanWatchOptions& options, c10::Device device, GradScaler* scaler)
    : options_(options), scaler_(scaler) {
  if (options.gradients_every < 1) {
    throw Error(ErrorKind::Argument, "nan_watch: gradients_every must be at least 1",
                "nan_watch.gradients_every");
  }
  const auto number = at::TensorOptions().dtype(at::kFloat).device(device);
  flag_ = at::zeros({}, number);
  good_ = at::zeros({}, number);
  bad_norm_ = at::zeros({}, number);
}

std::optional<NonFinite> NanWatch::look(int64_t step, const at::Tensor& loss, const at::Tensor& norm) {
  const double value = loss.item<double>();
  if (!std::isfinite(value)) return NonFinite{NonFinite::What::Loss, step, value};
  if (scaler_) {
    if (scaler_->foundInf().item<double>() == 0) return std::nullopt;
    // This step, which is not counted yet, and those before it.
    return collapsed(step, scaler_->skippedInARow().item<double>() + 1, scaler_->scale().item<double>());
  }
  if (!norm.defined()) return std::nullopt;
  const double length = norm.item<double>();
  if (!std::isfinite(length)) return NonFinite{NonFinite::What::Gradient, step, length};
  return std::nullopt;
}

void NanWatch::beginRun(int64_t done) {
  clearFlag();
  good_.zero_();
  bad_norm_.zero_();
  begin_ = done;
}

void NanWatch::raise(const at::Tensor& loss, const at::Tensor& norm) {
  const c10::NoGradGuard no_grad;
  const auto raised = [](const at::Tensor& value) { return at::isfinite(value.reshape({})).logical_not(); };
  at::Tensor bad = raised(loss).to(at::kFloat);
  if (norm.defined() && !scaler_) {
    bad = at::maximum(bad, raised(norm).to(at::kFloat));
    bad_norm_.copy_(at::where(flag_.ne(0), bad_norm_, norm.reshape({}).to(at::kFloat)));
  }
  flag_.copy_(at::maximum(flag_, bad));
}

void NanWatch::count() {
  const c10::NoGradGuard no_grad;
  good_.add_(1 - flag_);
}

// A new row begins with each fault.
std::optional<NonFinite> NanWatch::collapsed(int64_t step, double skipped_in_a_row, double scale) {
  if (skipped_in_a_row < kMostSkipped) return std::nullopt;
  scaler_->endRow();
  return NonFinite{NonFinite::What::Scale, step, scale};
}

std::vector<at::Tensor> NanWatch::counts() const {
  std::vector<at::Tensor> counts{good_, bad_norm_};
  if (scaler_) counts.push_back(scaler_->skippedInARow());
  return counts;
}

std::optional<NonFinite> NanWatch::inspect(StepsEvent& event) {
  const auto count = static_cast<int64_t>(event.losses.size());
  const auto good = begin_ + static_cast<int64_t>(event.counts.at(0));
  if (good >= event.step) {
    if (!scaler_) return std::nullopt;
    return collapsed(event.step, event.counts.at(2), event.scale.value_or(0));
  }
  const int64_t place = std::clamp<int64_t>(good - (event.step - count), 0, count - 1);
  const double loss = event.losses[static_cast<size_t>(place)];
  const NonFinite fault = std::isfinite(loss)
                              ? NonFinite{NonFinite::What::Gradient, good + 1, event.counts[1]}
                              : NonFinite{NonFinite::What::Loss, good + 1, loss};
  event.samples = event.samples * place / count;
  event.losses.resize(static_cast<size_t>(place));
  event.step = good;
  return fault;
}

}  // namespace fornax
