// Segmentation metrics over any number of batches: a confusion matrix of pixels. Runs on the caller's thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "metrics/confusion.h"

namespace fornax {

struct SegmentationOptions {
  int64_t classes = 0;
  std::optional<int64_t> ignore_index;  // pixels of the mask with this value are not counted
};

class SegmentationMetrics {
 public:
  SegmentationMetrics(const SegmentationOptions& options, c10::Device device);

  // `output`: floating logits [n, classes, …] or predicted classes, integers [n, …]. `mask`: integers [n, …]
  // on any device; it is checked where it lies. ArgumentError where the shapes do not fit, DataError for a
  // value of the mask outside [0, classes) that is not `ignore_index`.
  void add(const at::Tensor& output, const at::Tensor& mask);

  std::vector<int64_t> confusion() const { return confusion_.read(); }

 private:
  SegmentationOptions options_;
  c10::Device device_;
  Confusion confusion_;
};

}  // namespace fornax
