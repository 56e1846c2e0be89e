#include "device/side_stream.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

namespace fornax {

namespace {
c10::impl::VirtualGuardImpl guardOf(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type());
}
}  // namespace

c10::Stream currentStream(c10::Device device) {
  return guardOf(device).getStream(device);
}

c10::Stream sideStream(c10::Device device) {
  if (device.is_cpu()) return currentStream(device);
  return guardOf(device).getStreamFromGlobalPool(device);
}

void follow(const c10::Stream& stream, const c10::Stream& before) {
  if (stream == before || stream.device().is_cpu()) return;
  c10::Event event(stream.device_type());
  event.record(before);
  event.block(stream);
}

StreamScope::StreamScope(const c10::Stream& stream)
    : stream_(stream), previous_(currentStream(stream.device())) {
  follow(stream_, previous_);
  guardOf(stream_.device()).exchangeStream(stream_);
}

StreamScope::~StreamScope() {
  guardOf(stream_.device()).exchangeStream(previous_);
  try {
    follow(previous_, stream_);
  } catch (const c10::Error&) {
    // The device failed, which the next operator says too.
  }
}

}  // namespace fornax
