// Classification metrics over any number of batches, counted in tensors on the model's device and read at the
// end, so that no batch waits for the one before. Runs on the caller's threads, one at a time.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "metrics/confusion.h"

namespace fornax {

struct ClassificationOptions {
  int64_t classes = 0;
  bool cross_entropy = true;
  // AUROC needs every score: 4 bytes × samples × classes on the device, then on the CPU.
  bool auroc = true;
  int64_t auroc_bytes = int64_t{1} << 30;  // beyond this the scores are dropped and there is no AUROC
  int64_t bins = 15;                       // of the calibration error
};

struct ClassificationResult {
  int64_t samples = 0;
  double top1 = 0;                      // shares of all samples
  double top5 = 0;                      // with fewer than five classes: among all of them
  std::optional<double> cross_entropy;  // mean over samples
  // Expected calibration error (Naeini et al. 2015; Guo et al. 2017), l1: bins of equal width over the
  // confidence max softmax, [lower, upper); Σ |accuracy − mean confidence| · share of the samples.
  double ece = 0;
  std::optional<double> auroc;                         // mean over the classes that have samples and others
  std::vector<std::optional<double>> auroc_per_class;  // empty without AUROC
  std::vector<int64_t> confusion;                      // [classes × classes], row = target
  ConfusionScores scores;
};

// `label` as it is. Looks at it where it lies, so that for labels on the CPU nobody waits for a device.
// DataError that names the row of a label outside [0, classes).
const at::Tensor& checkLabels(const at::Tensor& label, int64_t classes);

class ClassificationMetrics {
 public:
  ClassificationMetrics(const ClassificationOptions& options, c10::Device device);

  // Logits [n, classes] of a floating type and int64 labels [n] in [0, classes), both on the device.
  // ArgumentError where the shapes do not fit.
  void add(const at::Tensor& logits, const at::Tensor& label);

  ClassificationResult read() const;

  int64_t samples() const { return samples_; }
  int64_t classes() const { return options_.classes; }

 private:
  void keepScores(const at::Tensor& probabilities, const at::Tensor& label);

  ClassificationOptions options_;
  int64_t samples_ = 0;
  Confusion confusion_;
  at::Tensor hits_;           // among the first one and five
  at::Tensor cross_entropy_;  // sum
  at::Tensor bounds_;         // of the bins
  at::Tensor bins_;           // [3, bins + 1]: samples, sum of confidences, hits; last: confidence 1
  bool keep_scores_;
  std::vector<at::Tensor> scores_;
  std::vector<at::Tensor> labels_;
};

}  // namespace fornax
