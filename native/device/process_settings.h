// Settings of libtorch that belong to the whole process. The first session that asks for one sets it; a
// session that asks for the opposite is refused, because it would change the results of the others.
#pragma once

#include <optional>

namespace fornax {

struct ProcessSettings {
  std::optional<bool> cudnn_benchmark;  // try cuDNN's algorithms and keep the fastest
  std::optional<bool> tf32;             // TensorFloat-32 in matrix products and convolutions
  // Only algorithms that give the same bits every time; an operator without one throws. Implies
  // cudnn_benchmark off, as its choice rests on timing. cuBLAS needs CUBLAS_WORKSPACE_CONFIG besides, which
  // is set before libtorch is opened (src/native/open_addon.ts).
  std::optional<bool> deterministic;
};

// Thread-safe. Throws fornax::Error (Device) on contradiction; then nothing has changed.
void applyProcessSettings(const ProcessSettings& wanted);

}  // namespace fornax
