// Bilinear resizing with antialiasing, as Pillow does it for 8-bit images (and so torchvision for PIL
// images): a triangle filter as wide as the reduction, separable, each pass rounded to 8 bits. Pillow goes
// horizontally first; here the vertical pass comes first, because it runs over contiguous bytes and leaves
// only the rows of the output to the costlier horizontal one. Both round twice, so that results differ by at
// most one level.
#pragma once

#include <cstdint>
#include <vector>

#include "data/pixel_kernels.h"

namespace fornax {

// The weights along one axis: output i of `count` is Σ_k weights[i · taps + k] · input[starts[i] + k] /
// 2^shift. Weights are not negative and sum to exactly 2^shift; taps is even, unused ones are zero.
struct ResizeAxis {
  int taps = 0;
  int shift = 0;
  std::vector<int32_t> starts;
  std::vector<int32_t> used;  // taps that are not zero, per output
  std::vector<int16_t> weights;

  // Outputs [first, first + count) of `in` pixels resized to `out`; `reverse` lists them from the last to the
  // first (a flip for free). `taps` becomes a multiple of `multiple`.
  void build(int64_t in, int64_t out, int64_t first, int64_t count, bool reverse, int multiple);

 private:
  std::vector<double> exact_;  // scratch
};

// Resizes rows on demand. Owns its scratch memory; one per thread, nothing is allocated once it has seen the
// largest image.
class RowResizer {
 public:
  explicit RowResizer(const PixelKernels& kernels) : kernels_(kernels) {}

  struct Window {
    const uint8_t* pixels;  // first byte of the source box
    int64_t stride;         // bytes from row to row
    int64_t height, width;  // of the source box
    int channels;           // 1 or 3
    int64_t resized_height, resized_width;
    int64_t top, left;      // first row and column wanted of the resized box
    int64_t rows, columns;  // how many
    bool reverse;           // columns from right to left
  };

  void start(const Window& window);

  // Row `i` of the window into `out` [columns · channels], which must have kRowPadding bytes behind it.
  void row(int64_t i, uint8_t* out);

 private:
  void prefetchTo(int64_t row);  // of the source box, exclusive

  const PixelKernels& kernels_;
  Window window_{};
  int64_t prefetched_ = 0;
  ResizeAxis vertical_, horizontal_;
  std::vector<int32_t> byte_starts_;
  std::vector<int16_t> quads_;
  std::vector<const uint8_t*> taps_;
  std::vector<uint8_t> line_;
};

}  // namespace fornax
