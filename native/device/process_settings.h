// Settings of libtorch that belong to the whole process. The first session that asks for one sets it; a
// session that asks for the opposite is refused, because it would change the results of the others.
#pragma once

#include <optional>

namespace fornax {

struct ProcessSettings {
  std::optional<bool> cudnn_benchmark;  // try cuDNN's algorithms and keep the fastest
  std::optional<bool> tf32;             // TensorFloat-32 in matrix products and convolutions
};

// Thread-safe. Throws fornax::Error (Device) on contradiction; then nothing has changed.
void applyProcessSettings(const ProcessSettings& wanted);

}  // namespace fornax
