// Held while work of a device is recorded. libtorch's allocator gives no cached memory back meanwhile,
// whoever asks: on a GPU it fails with an internal error.
#pragma once

#include <mutex>

namespace fornax {

inline std::mutex& recordingMutex() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace fornax
