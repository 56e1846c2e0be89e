// The average precision of WIDER FACE (Yang et al. 2016) as its evaluation code computes it (eval_tools of
// the data set; the Python port is known as WiderFace-Evaluation). Plain C++, runs on the caller's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fornax {

struct WiderSet {
  // All predictions of all images, [x, y, width, height, score] each, in the files' order, which is the order
  // of matching; `prediction_offsets` [images + 1] says where those of an image begin.
  std::vector<double> predictions;
  std::vector<int64_t> prediction_offsets;
  // All faces, [x, y, width, height] each.
  std::vector<double> faces;
  std::vector<int64_t> face_offsets;
};

struct WiderOptions {
  double iou_threshold = 0.5;
  int64_t thresholds = 1000;  // of the normalised score, equally spaced
};

struct WiderResult {
  double average_precision = 0;
  int64_t faces = 0;  // that count
  // One value per threshold, from the highest on.
  std::vector<double> precision;
  std::vector<double> recall;
};

// One result per setting (easy, medium, hard). `settings[s][f]` is 1 where face f counts in setting s, 0
// where it is ignored: then what overlaps it is neither right nor wrong. Scores are scaled to 0…1 over the
// whole set first; if all are equal they become 1. Overlaps follow the convention of boxes that end on a
// pixel: widths count one more. ArgumentError where the lengths do not fit or a value is not finite.
std::vector<WiderResult> evaluateWider(const WiderSet& set, const std::vector<std::vector<uint8_t>>& settings,
                                       const WiderOptions& options);

}  // namespace fornax
