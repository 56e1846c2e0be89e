// From the raw outputs of a face detector to faces in pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "detect/priors.h"

namespace fornax {

struct DetectOptions {
  float confidence = 0.02f;  // scores up to this are no candidates
  float nms = 0.4f;          // overlaps above this are duplicates
  int64_t top_k = 5000;      // candidates kept before suppression
  int64_t keep_top_k = 750;  // faces kept after it
  float center_variance = 0.1f, size_variance = 0.2f;
};

// x1, y1, x2, y2, score, then five points (x, y): pixels.
constexpr int64_t kFaceValues = 15;

struct Detections {
  std::vector<float> values;  // kFaceValues for each face, by falling score
  int64_t candidates = 0;     // scores above `confidence`
};

// `loc` [P, 4], `scores` [P] (probabilities) and `landm` [P, 10]: float32, contiguous, on the CPU.
Detections decodeFaces(const at::Tensor& priors, const at::Tensor& loc, const at::Tensor& scores,
                       const at::Tensor& landm, ImageSize size, const DetectOptions& options);

}  // namespace fornax
