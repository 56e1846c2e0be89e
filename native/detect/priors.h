// The anchors ("priors") of a face detector: Deng et al. 2019 (arXiv:1905.00641), as in
// biubug6/Pytorch_Retinaface.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>

namespace fornax {

struct ImageSize {
  int64_t height = 0, width = 0;
};

// Of a batch of images as a session takes it: uint8 [N, H, W, C] or floating [N, C, H, W].
ImageSize imageSize(const at::Tensor& images);

// How many anchors there are: ⌈H / step⌉ · ⌈W / step⌉ places on each level.
int64_t countPriors(ImageSize size, at::ArrayRef<double> min_sizes, at::ArrayRef<int64_t> steps);

// float32 [P, 4] on the CPU: centre, width and height, as shares of the image. Level by level, row by row,
// sizes innermost. `min_sizes` lists those of the first level, then those of the second and so on, as many of
// each. Computed in double and rounded once, so that the values are the reference's to the last bit.
at::Tensor makePriors(ImageSize size, at::ArrayRef<double> min_sizes, at::ArrayRef<int64_t> steps);

}  // namespace fornax
