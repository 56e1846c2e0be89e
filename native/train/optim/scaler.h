// Gradient scaling for float16 (Micikevicius et al. 2018; torch.amp.GradScaler). Everything it decides lives
// in tensors on the device, so that no step waits for the host: the loss is multiplied by `scale`, gradients
// are divided by it again, `found_inf` makes the fused optimizers skip the update, and skipped steps are
// counted on the device. Used on the session's thread only.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

namespace fornax {

struct ScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;
};

class GradScaler {
 public:
  // Throws fornax::Error (Argument) for factors out of range.
  GradScaler(const ScalerOptions& options, c10::Device device);

  at::Tensor scaleLoss(const at::Tensor& loss) const;
  // Divides the gradients by the scale in place and notes whether any of them is not finite.
  void unscale(const std::vector<at::Tensor>& gradients);
  // float32 scalar on the device: 1 if the last unscale met a value that is not finite, else 0.
  const at::Tensor& foundInf() const { return found_inf_; }
  // After the optimizer: grows or backs off the scale, counts a skipped step.
  // Where `frozen` (float32 scalar on the device; may be null) is 1, nothing of it is changed.
  void update(const at::Tensor* frozen = nullptr);
  // Also skips the update where `flag` is 1. After unscale().
  void skipWhere(const at::Tensor& flag);

  // float32 scalars on the device; reading them synchronises.
  const at::Tensor& scale() const { return scale_; }
  const at::Tensor& skipped() const { return skipped_; }
  // Of these the last ones, without a step in between that was not skipped.
  const at::Tensor& skippedInARow() const { return in_a_row_; }
  void endRow() { in_a_row_.zero_(); }
  const at::Tensor& growthTracker() const { return growth_tracker_; }

 private:
  ScalerOptions options_;
  at::Tensor scale_, growth_tracker_, found_inf_, skipped_, in_a_row_;
};

}  // namespace fornax
