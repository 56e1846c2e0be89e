// Streams of a device beside its default one. On the CPU, which has none, all of this does nothing.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>

namespace fornax {

// A stream of the device's pool; on the CPU its only one.
c10::Stream sideStream(c10::Device device);

// The current stream of the calling thread.
c10::Stream currentStream(c10::Device device);

// `stream` waits, on the device, for what `before` has to do by now.
void follow(const c10::Stream& stream, const c10::Stream& before);

// Makes a stream the current one for its lifetime. The stream begins after what the previous one has to do,
// and the previous one goes on after what was done here: for the device it is as if there were one stream.
class StreamScope {
 public:
  explicit StreamScope(const c10::Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  c10::Stream stream_;
  c10::Stream previous_;
};

// The same, or nothing.
class OptionalStreamScope {
 public:
  explicit OptionalStreamScope(const std::optional<c10::Stream>& stream) {
    if (stream) scope_.emplace(*stream);
  }

 private:
  std::optional<StreamScope> scope_;
};

}  // namespace fornax
