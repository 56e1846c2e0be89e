// Brings batches to the device on a stream of their own, so that the copy of a batch runs beside the step
// before it. The host may run ahead of the device, but only by a few batches: each takes memory on both
// sides. On the CPU batches stay where they are. Used on the session's thread.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <deque>
#include <optional>

#include "data/batch.h"

namespace fornax {

class BatchUpload {
 public:
  // `ahead`: batches that may be on their way or in use when another one is brought. Those of two steps,
  // where a repeated step begins with all of its batches: with fewer the host would wait for the step before.
  BatchUpload(c10::Device device, size_t ahead) : device_(device), ahead_(ahead) {}

  // The batch on the device, for whoever works on the current stream; fields that are there already stay.
  // From page-locked memory the copy does not wait; other memory is copied to such first. The memory of
  // `batch` may be let go of at once: the allocator keeps page-locked blocks until they have been read.
  Batch bring(const Batch& batch);

 private:
  void limitLead(const c10::Stream& compute);

  const c10::Device device_;
  const size_t ahead_;
  std::optional<c10::Stream> stream_;
  std::deque<c10::Event> begun_;  // on the computing stream: where each of the last batches was brought
};

}  // namespace fornax
