// Target matching of SSD (Liu et al. 2016, arXiv:1512.02325, section 2.2) as the face detectors train with
// it: biubug6/Pytorch_Retinaface's match(), quirks included.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>

namespace fornax {

// The faces of one image, as shares of its size, on the CPU.
struct FaceTargets {
  const float* boxes = nullptr;      // [count, 4]: x1, y1, x2, y2
  const float* landmarks = nullptr;  // [count, 10]
  const int64_t* labels = nullptr;   // [count]: 1; −1 without landmarks
  int64_t count = 0;
};

// What the anchors of one image shall predict. All rows are written.
struct AnchorTargets {
  float* loc = nullptr;     // [P, 4]
  int64_t* conf = nullptr;  // [P]: 0 is the background, else the face's label
  float* landm = nullptr;   // [P, 10]
};

// Each anchor gets the face it overlaps most, and is background below `threshold`. Then:
// - each face whose best anchor overlaps it by 0.2 or more makes that anchor a positive one;
// - *every* face takes its best anchor, also from another face and also below 0.2; the last one wins;
// - without any face of 0.2 or more nothing is matched at all.
// A face without area takes none: its target would be the logarithm of 0. The first of equal overlaps counts.
// All in float32, by the reference's formulas: ties are common.
void matchPriors(const float* priors, int64_t count, const FaceTargets& faces, float threshold,
                 at::ArrayRef<double> variances, const AnchorTargets& targets);

}  // namespace fornax
