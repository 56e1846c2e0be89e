// What batch norm does in each mode, for the operators that compute it (Ioffe & Szegedy 2015, as
// torch.nn.BatchNorm2d).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace fornax {

struct BatchNormStep {
  bool training;  // normalise by the statistics of this batch
  bool moves;     // and let the running statistics move
  double factor;  // weight of this batch in the running statistics
};

// Counts the batch where `batches_tracked` is given. `momentum` null means the cumulative average; in
// `recompute` the running statistics become those of this batch alone, whoever recomputes accumulates them.
// Throws for a mode that does not exist, and for a batch without a variance.
BatchNormStep beginBatchNorm(const at::Tensor& x, const std::optional<at::Tensor>& running_mean,
                             const std::optional<at::Tensor>& batches_tracked, int64_t mode,
                             std::optional<double> momentum);

}  // namespace fornax
