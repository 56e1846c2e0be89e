#include "train/recording/step_recorder.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

#include "device/memory.h"

namespace fornax {

void StepRecorder::record(int64_t step, const at::Tensor& loss, double lr, int64_t samples,
                          double wait_seconds, bool repeated) {
  open_.step = step;
  open_.lr = lr;
  open_.samples += samples;
  open_.wait_seconds += wait_seconds;
  open_.repeated += repeated ? 1 : 0;
  if (device_.is_cpu()) {
    open_.losses.push_back(loss.item<double>());
  } else {
    tensors_.push_back(loss.to(at::kFloat).reshape({}));
  }
}

void StepRecorder::close(double seconds) {
  Travelling interval;
  interval.event = std::exchange(open_, {});
  interval.event.seconds = seconds;
  interval.event.memory = usedMemory(device_);
  interval.event.tensors = memoryFigures(device_);
  if (device_.is_cpu()) {
    if (scaler_) {
      interval.event.scale = scaler_->scale().item<double>();
      interval.event.skipped = scaler_->skipped().item<double>();
    }
    for (const at::Tensor& count : counts_) interval.event.counts.push_back(count.item<double>());
  } else {
    if (scaler_) {
      tensors_.push_back(scaler_->scale());
      tensors_.push_back(scaler_->skipped());
    }
    tensors_.insert(tensors_.end(), counts_.begin(), counts_.end());
    const at::Tensor values = at::stack(tensors_);
    tensors_.clear();
    interval.values = at::empty(values.sizes(), at::TensorOptions().dtype(at::kFloat).pinned_memory(true));
    interval.values.copy_(values, /*non_blocking=*/true);
    interval.arrived.emplace(device_.type());
    interval.arrived->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  }
  closed_.push_back(std::move(interval));
}

std::optional<StepsEvent> StepRecorder::take(bool wait) {
  if (closed_.empty()) return std::nullopt;
  Travelling& oldest = closed_.front();
  if (oldest.arrived) {
    if (!wait && !oldest.arrived->query()) return std::nullopt;
    oldest.arrived->synchronize();
    const float* values = oldest.values.const_data_ptr<float>();
    const int64_t losses = oldest.values.numel() - (scaler_ ? 2 : 0) - static_cast<int64_t>(counts_.size());
    oldest.event.losses.assign(values, values + losses);
    if (scaler_) {
      oldest.event.scale = values[losses];
      oldest.event.skipped = values[losses + 1];
    }
    oldest.event.counts.assign(values + oldest.values.numel() - counts_.size(),
                               values + oldest.values.numel());
  }
  StepsEvent event = std::move(oldest.event);
  closed_.pop_front();
  return event;
}

}  // namespace fornax
