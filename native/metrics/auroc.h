// Area under the ROC curve, one class against the rest, exactly (no binning of thresholds).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace fornax {

// For each class the share of pairs (a sample of the class, a sample of another) that the score of the class
// orders rightly, ties counting half: the area under the ROC curve (Hanley & McNeil 1982). None for a class
// without samples or without others; NaN if a score is NaN.
//
// `scores`: float32 [n, classes] each, on the CPU and contiguous; `labels` int64 [n] in [0, classes), of all
// scores one after another. Uses the calling thread's intra-op threads; memory beside the scores: O(n).
std::vector<std::optional<double>> aurocOneVsRest(const std::vector<at::Tensor>& scores,
                                                  const at::Tensor& labels, int64_t classes);

}  // namespace fornax
