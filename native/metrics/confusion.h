// Confusion matrices: counted in a tensor on the device where predictions are made, read once at the end, and
// the scores that follow from them. Runs on the caller's thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace fornax {

class Confusion {
 public:
  Confusion(int64_t classes, c10::Device device);

  // int64 tensors of one shape on the device. Every target and prediction is in [0, classes), or the target
  // is `ignore`: then the pair is not counted.
  void add(const at::Tensor& target, const at::Tensor& prediction, std::optional<int64_t> ignore = {});

  // [classes × classes], row = target, column = prediction.
  std::vector<int64_t> read() const;

  int64_t classes() const { return classes_; }

 private:
  int64_t classes_;
  at::Tensor counts_;  // one more cell at the end, for ignored pairs
};

// Shares in 0…1. Where the denominator is 0 (nothing predicted, nothing there) a share is 0.
struct Averages {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
};

struct ConfusionScores {
  std::vector<int64_t> support;  // samples of each class
  std::vector<double> precision;
  std::vector<double> recall;
  std::vector<double> f1;
  Averages macro;     // mean over the classes that occur as target or as prediction
  Averages weighted;  // mean weighted by support
};

ConfusionScores scoreConfusion(const std::vector<int64_t>& confusion, int64_t classes);

struct OverlapScores {
  int64_t pixels = 0;  // counted ones
  double pixel_accuracy = 0;
  // Intersection over union and Dice = 2·intersection / (sum of both areas); none for a class that occurs
  // neither as target nor as prediction.
  std::vector<std::optional<double>> iou;
  std::vector<std::optional<double>> dice;
  double miou = 0;  // means over the classes that occur
  double mean_dice = 0;
};

OverlapScores scoreOverlap(const std::vector<int64_t>& confusion, int64_t classes);

}  // namespace fornax
