#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace fornax {

namespace {

[[noreturn]] void outOfRange(const std::string& name, const std::string& expected) {
  throw Error(ErrorKind::Argument, name + " must be " + expected, "loader options");
}

bool increasing(const std::array<double, 2>& range) {
  return std::isfinite(range[0]) && std::isfinite(range[1]) && range[0] > 0 && range[0] <= range[1];
}

std::string sizeText(int64_t height, int64_t width) {
  return std::to_string(height) + "×" + std::to_string(width);
}

// Python's round(): halves go to the even neighbour, which is what torchvision's formulas were written with.
int64_t roundEven(double x) {
  return static_cast<int64_t>(std::nearbyint(x));
}

struct Box {
  int64_t top, left, height, width;
};

// torchvision.transforms.RandomResizedCrop.get_params
Box drawResizedCrop(const AugmentOptions& options, int64_t height, int64_t width, RandomStream& random) {
  const double area = static_cast<double>(height) * static_cast<double>(width);
  const double log_low = std::log(options.ratio[0]), log_high = std::log(options.ratio[1]);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(options.scale[0], options.scale[1]);
    const double aspect = std::exp(random.uniform(log_low, log_high));
    const int64_t w = roundEven(std::sqrt(target * aspect));
    const int64_t h = roundEven(std::sqrt(target / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      const int64_t top = random.below(static_cast<uint32_t>(height - h + 1));
      const int64_t left = random.below(static_cast<uint32_t>(width - w + 1));
      return {top, left, h, w};
    }
  }
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  int64_t h = height, w = width;
  if (ratio < options.ratio[0]) {
    h = std::clamp<int64_t>(roundEven(width / options.ratio[0]), 1, height);
  } else if (ratio > options.ratio[1]) {
    w = std::clamp<int64_t>(roundEven(height * options.ratio[1]), 1, width);
  }
  return {(height - h) / 2, (width - w) / 2, h, w};
}

// Where a window of `size` from `begin` (perhaps negative) meets [0, extent): first index, count, place in
// window.
struct Overlap {
  int64_t first, count, to;
};

Overlap overlap(int64_t begin, int64_t size, int64_t extent) {
  const int64_t first = std::max<int64_t>(0, begin);
  const int64_t count = std::max<int64_t>(0, std::min(begin + size, extent) - first);
  return {first, count, first - begin};
}

// torchvision's center_crop: an image that is too small is padded first, and the rest of an odd difference
// goes to the bottom and right; otherwise int(round((image − crop) / 2)).
int64_t centreBegin(int64_t extent, int64_t size) {
  if (extent < size) return -((size - extent) / 2);
  return roundEven(static_cast<double>(extent - size) / 2.0);
}

}  // namespace

void AugmentOptions::validate() const {
  constexpr int64_t kMost = 1 << 15;
  if (height < 1 || width < 1 || height > kMost || width > kMost) {
    outOfRange("augment.size", "two integers from 1 to 32768");
  }
  if (!(hflip >= 0 && hflip <= 1)) outOfRange("augment.hflip", "a probability from 0 to 1");
  switch (crop) {
    case CropKind::ResizeCrop:
      if (resize < 1 || resize > kMost) outOfRange("augment.crop.resize", "an integer from 1 to 32768");
      break;
    case CropKind::RandomResizedCrop:
      if (!increasing(scale) || scale[1] > 1) outOfRange("augment.crop.scale", "0 < low <= high <= 1");
      if (!increasing(ratio)) outOfRange("augment.crop.ratio", "0 < low <= high");
      break;
    case CropKind::RandomCrop:
      if (padding < 0 || padding > kMost) outOfRange("augment.crop.padding", "an integer from 0 to 32768");
      break;
    case CropKind::None:
      break;
  }
}

std::string misfit(const AugmentOptions& options, int64_t height, int64_t width) {
  if (options.crop == CropKind::None && (height != options.height || width != options.width)) {
    return "the image is " + sizeText(height, width) + ", and crop 'none' needs exactly " +
           sizeText(options.height, options.width);
  }
  if (options.crop == CropKind::RandomCrop &&
      (height + 2 * options.padding < options.height || width + 2 * options.padding < options.width)) {
    return "the image is " + sizeText(height, width) + ", which with a padding of " +
           std::to_string(options.padding) + " is smaller than the crop of " +
           sizeText(options.height, options.width);
  }
  return "";
}

Geometry drawGeometry(const AugmentOptions& options, int64_t height, int64_t width, uint64_t seed,
                      uint64_t epoch, uint64_t sample) {
  RandomStream random(seed, epoch, sample, RandomOperation::Crop);
  const int64_t rows = options.height, columns = options.width;
  Geometry g{0, 0, height, width, height, width, 0, 0, rows, columns, 0, 0, false};
  int64_t begin_y = 0, begin_x = 0;  // of the output's window in the resized box
  switch (options.crop) {
    case CropKind::ResizeCrop: {
      // torchvision's Resize(int): the longer side is truncated, not rounded.
      const int64_t shorter = std::min(height, width), longer = std::max(height, width);
      const int64_t other = static_cast<int64_t>(static_cast<double>(options.resize) *
                                                 static_cast<double>(longer) / static_cast<double>(shorter));
      g.resized_height = height <= width ? options.resize : other;
      g.resized_width = height <= width ? other : options.resize;
      begin_y = centreBegin(g.resized_height, rows);
      begin_x = centreBegin(g.resized_width, columns);
      break;
    }
    case CropKind::RandomResizedCrop: {
      const Box box = drawResizedCrop(options, height, width, random);
      g.top = box.top, g.left = box.left, g.height = box.height, g.width = box.width;
      g.resized_height = rows, g.resized_width = columns;
      break;
    }
    case CropKind::RandomCrop: {
      const int64_t room_y = height + 2 * options.padding - rows,
                    room_x = width + 2 * options.padding - columns;
      begin_y = static_cast<int64_t>(random.below(static_cast<uint32_t>(room_y + 1))) - options.padding;
      begin_x = static_cast<int64_t>(random.below(static_cast<uint32_t>(room_x + 1))) - options.padding;
      break;
    }
    case CropKind::None:
      break;
  }
  const Overlap y = overlap(begin_y, rows, g.resized_height), x = overlap(begin_x, columns, g.resized_width);
  g.window_top = y.first, g.rows = y.count, g.to_top = y.to;
  g.window_left = x.first, g.columns = x.count, g.to_left = x.to;
  if (options.hflip > 0) {
    g.flip = RandomStream(seed, epoch, sample, RandomOperation::Flip).uniform() < options.hflip;
  }
  return g;
}

NormalizeTable::NormalizeTable(const std::vector<double>& mean, const std::vector<double>& std,
                               int channels) {
  if (mean.size() != static_cast<size_t>(channels) || std.size() != static_cast<size_t>(channels)) {
    outOfRange("normalize.mean and normalize.std", "one number for each of the " + std::to_string(channels) +
                                                       (channels == 1 ? " channel" : " channels"));
  }
  for (int64_t i = 0; i < kNormalizePeriod; ++i) {
    const double m = mean[i % channels], s = std[i % channels];
    if (!(s > 0) || !std::isfinite(s) || !std::isfinite(m)) {
      outOfRange("normalize.std", "positive numbers, and normalize.mean finite ones");
    }
    scale[i] = static_cast<float>(1.0 / (255.0 * s));
    bias[i] = static_cast<float>(-m / s);
  }
}

ImageAssembler::ImageAssembler(int64_t height, int64_t width, int channels, const NormalizeTable* normalize,
                               bool stream, const PixelKernels& kernels)
    : height_(height),
      width_(width),
      channels_(channels),
      normalize_(normalize),
      stream_(stream),
      kernels_(kernels),
      resizer_(kernels),
      row_(width * channels + kRowPadding),
      zeros_(width * channels) {}

void ImageAssembler::writeRow(int64_t y, const uint8_t* row, void* out) const {
  const int64_t n = width_ * channels_;
  if (!normalize_) {
    std::memcpy(static_cast<uint8_t*>(out) + y * n, row, n);
    return;
  }
  float* to = static_cast<float*>(out) + y * n;
  const bool aligned = reinterpret_cast<uintptr_t>(to) % 64 == 0;
  kernels_.normalize(row, normalize_->scale.data(), normalize_->bias.data(), n, stream_ && aligned, to);
}

void ImageAssembler::assemble(const uint8_t* pixels, int64_t source_width, const Geometry& g, void* out) {
  const int64_t stride = source_width * channels_;
  const uint8_t* box = pixels + g.top * stride + g.left * channels_;
  const bool resample = g.resized_height != g.height || g.resized_width != g.width;
  const int64_t to_left = g.flip ? width_ - g.to_left - g.columns : g.to_left;
  const bool empty = g.rows == 0 || g.columns == 0;
  // What lies outside the placed columns stays zero for the whole image; row_ is overwritten up to its
  // padding.
  uint8_t* const to = row_.data() + to_left * channels_;
  const int64_t before = to_left * channels_, after = (width_ - to_left - g.columns) * channels_;

  if (!empty && resample) {
    resizer_.start({box, stride, g.height, g.width, channels_, g.resized_height, g.resized_width,
                    g.window_top, g.window_left, g.rows, g.columns, g.flip});
  }
  for (int64_t y = 0; y < height_; ++y) {
    const int64_t i = y - g.to_top;
    if (empty || i < 0 || i >= g.rows) {
      writeRow(y, zeros_.data(), out);
      continue;
    }
    if (resample) {
      resizer_.row(i, to);
    } else {
      const uint8_t* from = box + (g.window_top + i) * stride + g.window_left * channels_;
      if (!g.flip && g.columns == width_) {
        writeRow(y, from, out);
        continue;
      }
      if (!g.flip) {
        std::memcpy(to, from, g.columns * channels_);
      } else if (channels_ == 3) {
        for (int64_t x = 0; x < g.columns; ++x) std::memcpy(to + (g.columns - 1 - x) * 3, from + x * 3, 3);
      } else {
        std::reverse_copy(from, from + g.columns, to);
      }
    }
    if (before > 0) std::memset(row_.data(), 0, before);
    if (after > 0) std::memset(to + g.columns * channels_, 0, after);
    writeRow(y, row_.data(), out);
  }
  if (normalize_ && stream_) kernels_.fence();
}

}  // namespace fornax
