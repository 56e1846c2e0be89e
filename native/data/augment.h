// Geometry of one sample: which part of the image is taken, to what size it is brought, where it lands in the
// output and whether it is mirrored. Drawn here, carried out by ImageAssembler; both know nothing of threads.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/pixel_kernels.h"
#include "data/random.h"
#include "data/resize.h"

namespace fornax {

enum class CropKind { ResizeCrop, RandomResizedCrop, RandomCrop, None };

struct AugmentOptions {
  int64_t height = 0, width = 0;
  CropKind crop = CropKind::None;
  int64_t resize = 0;                 // ResizeCrop: length of the shorter side
  std::array<double, 2> scale{1, 1};  // RandomResizedCrop: share of the area
  std::array<double, 2> ratio{1, 1};  // RandomResizedCrop: width / height
  int64_t padding = 0;                // RandomCrop: zeros on every side
  double hflip = 0;                   // probability

  // ArgumentError naming what is out of range.
  void validate() const;
};

// The box (top, left, height, width) of the source is resized to (resized_height, resized_width); of that,
// the window of rows × columns from (window_top, window_left) lands at (to_top, to_left) of the output, whose
// remainder is zero. Then the whole output is mirrored if `flip`.
struct Geometry {
  int64_t top, left, height, width;
  int64_t resized_height, resized_width;
  int64_t window_top, window_left, rows, columns;
  int64_t to_top, to_left;
  bool flip;
};

// The reason why an image of this size cannot be used with these options, or empty.
std::string misfit(const AugmentOptions& options, int64_t height, int64_t width);

// A pure function of its arguments. The image must fit (see misfit()).
Geometry drawGeometry(const AugmentOptions& options, int64_t height, int64_t width, uint64_t seed,
                      uint64_t epoch, uint64_t sample);

// (x / 255 − mean) / std as x · scale + bias, repeated over kNormalizePeriod elements.
struct NormalizeTable {
  NormalizeTable(const std::vector<double>& mean, const std::vector<double>& std, int channels);
  std::array<float, kNormalizePeriod> scale, bias;
};

// Carries a Geometry out. Owns its scratch memory: one per thread.
class ImageAssembler {
 public:
  // `normalize` must outlive this; null for uint8 output. `stream`: write float rows around the cache.
  ImageAssembler(int64_t height, int64_t width, int channels, const NormalizeTable* normalize, bool stream,
                 const PixelKernels& kernels = pixelKernels());

  // `pixels` [height, width, channels] of the source → `out` uint8 or float32 [height, width, channels].
  void assemble(const uint8_t* pixels, int64_t source_width, const Geometry& geometry, void* out);

 private:
  void writeRow(int64_t y, const uint8_t* row, void* out) const;

  const int64_t height_, width_;
  const int channels_;
  const NormalizeTable* normalize_;
  const bool stream_;
  const PixelKernels& kernels_;
  RowResizer resizer_;
  std::vector<uint8_t> row_, zeros_;
};

}  // namespace fornax
