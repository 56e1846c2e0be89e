#include "train/batch/batch_upload.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "device/side_stream.h"

namespace fornax {

// Waits until the device is fewer than `ahead_` batches behind. Each event marks, on the computing stream,
// where a batch was brought: once the device gets there, all steps before that batch are done. Events are
// polled, because waiting for one would keep a core busy that loader threads need.
void BatchUpload::limitLead(const c10::Stream& compute) {
  while (begun_.size() >= ahead_) {
    while (!begun_.front().query()) std::this_thread::sleep_for(std::chrono::microseconds(50));
    begun_.pop_front();
  }
  begun_.emplace_back(device_.type());
  begun_.back().record(compute);
}

Batch BatchUpload::bring(const Batch& batch) {
  const auto is_there = [this](const auto& field) { return field.second.device() == device_; };
  if (device_.is_cpu() || std::all_of(batch.fields.begin(), batch.fields.end(), is_there)) return batch;
  const c10::Stream compute = currentStream(device_);
  if (!stream_) stream_ = sideStream(device_);
  limitLead(compute);
  Batch result = batch;
  {
    const c10::StreamGuard guard(*stream_);
    for (auto& [name, field] : result.fields) {
      if (field.device() == device_) continue;
      const at::Tensor locked = field.is_pinned() ? field : field.pin_memory();
      field = locked.to(device_, locked.scalar_type(), /*non_blocking=*/true);
      // Its memory belongs to the copying stream and is read on the other one.
      field.record_stream(compute);
    }
  }
  follow(compute, *stream_);
  return result;
}

}  // namespace fornax
