// Collects what happened in each step and turns intervals of steps into events. Losses stay tensors on the
// device; at the end of an interval they start to travel to pinned memory, and the event is handed out once
// they have arrived, as a rule one interval later, so that the device never waits for the host. On the CPU
// they are read at once. Used on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device/memory.h"
#include "train/optim/scaler.h"

namespace fornax {

struct StepsEvent {
  int64_t step = 0;            // steps done so far
  std::vector<double> losses;  // of the interval's steps
  double lr = 0;               // of the last of them
  int64_t samples = 0;
  double seconds = 0;
  double wait_seconds = 0;  // of these, waiting for the loader
  int64_t repeated = 0;     // of the steps: repeated from a recording (step_capture.h)
  std::string declined;     // why no step is recorded any more; said once
  std::optional<double> scale, skipped;
  std::vector<double> counts;  // what else was asked for, after the last of the steps
  int64_t memory = 0;          // bytes: peak allocated on CUDA, resident set on the CPU
  MemoryFigures tensors;
};

class StepRecorder {
 public:
  // `scaler` may be null. `counts`: further float32 scalars on the device that are read with each event.
  StepRecorder(c10::Device device, const GradScaler* scaler, std::vector<at::Tensor> counts = {})
      : device_(device), scaler_(scaler), counts_(std::move(counts)) {}

  void record(int64_t step, const at::Tensor& loss, double lr, int64_t samples, double wait_seconds,
              bool repeated = false);
  // Said with the open interval, unless empty.
  void decline(const std::string& reason) {
    if (!reason.empty()) open_.declined = reason;
  }
  bool empty() const { return open_.losses.empty() && tensors_.empty(); }
  // Ends the interval.
  void close(double seconds);
  // The oldest closed interval, if its losses have arrived; `wait` waits for them.
  std::optional<StepsEvent> take(bool wait);

 private:
  struct Travelling {
    StepsEvent event;
    at::Tensor values;  // pinned: losses, then scale and skipped steps, then the counts
    std::optional<c10::Event> arrived;
  };

  c10::Device device_;
  const GradScaler* scaler_;
  const std::vector<at::Tensor> counts_;
  StepsEvent open_;
  std::vector<at::Tensor> tensors_;  // losses of the open interval, still on the device
  std::deque<Travelling> closed_;
};

}  // namespace fornax
