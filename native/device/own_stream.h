// A stream of a device that nobody else has as long as this lives. Those of libtorch's pool are shared: what
// another session asked of one while a step is recorded there would become part of the recording, and would
// not be done. On the CPU it is its only one.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

namespace fornax {

class OwnStream {
 public:
  explicit OwnStream(c10::Device device);
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  const c10::Stream& stream() const { return stream_; }

 private:
  c10::Stream stream_;
};

// In own_stream_cuda.cc. Streams are never destroyed, since memory of the caching allocator belongs to them,
// but given out again. DeviceError if none can be made.
c10::Stream takeCudaStream(c10::Device device);
void giveBackCudaStream(const c10::Stream& stream) noexcept;

}  // namespace fornax
