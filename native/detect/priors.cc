#include "detect/priors.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

namespace fornax {

namespace {

// 2^26 anchors are a gigabyte; far beyond any image that a network could take.
constexpr int64_t kMaxPriors = int64_t{1} << 26;

int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t sizesPerLevel(at::ArrayRef<double> min_sizes, at::ArrayRef<int64_t> steps) {
  TORCH_CHECK(!steps.empty() && !min_sizes.empty() && min_sizes.size() % steps.size() == 0,
              "anchors need steps and as many min_sizes for each, got ", steps.size(), " steps and ",
              min_sizes.size(), " sizes");
  for (int64_t step : steps) TORCH_CHECK(step > 0, "steps of anchors must be positive, got ", step);
  for (double size : min_sizes) TORCH_CHECK(size > 0, "sizes of anchors must be positive, got ", size);
  return static_cast<int64_t>(min_sizes.size() / steps.size());
}

}  // namespace

ImageSize imageSize(const at::Tensor& images) {
  TORCH_CHECK(images.dim() == 4, "a batch of images has four dimensions, got ", images.sym_sizes());
  if (images.scalar_type() == at::kByte) return {images.size(1), images.size(2)};
  return {images.size(2), images.size(3)};
}

int64_t countPriors(ImageSize size, at::ArrayRef<double> min_sizes, at::ArrayRef<int64_t> steps) {
  const int64_t per_place = sizesPerLevel(min_sizes, steps);
  TORCH_CHECK(size.height > 0 && size.width > 0 && size.height < (1 << 24) && size.width < (1 << 24),
              "there are no anchors for an image of ", size.height, "×", size.width);
  int64_t places = 0;
  for (int64_t step : steps) places += ceilDivide(size.height, step) * ceilDivide(size.width, step);
  TORCH_CHECK(places <= kMaxPriors / per_place, "too many anchors for an image of ", size.height, "×",
              size.width);
  return places * per_place;
}

at::Tensor makePriors(ImageSize size, at::ArrayRef<double> min_sizes, at::ArrayRef<int64_t> steps) {
  const int64_t per_place = sizesPerLevel(min_sizes, steps);
  at::Tensor priors = at::empty({countPriors(size, min_sizes, steps), 4}, at::kFloat);
  float* out = priors.mutable_data_ptr<float>();
  const auto height = static_cast<double>(size.height), width = static_cast<double>(size.width);
  for (size_t level = 0; level < steps.size(); ++level) {
    const int64_t step = steps[level];
    const auto distance = static_cast<double>(step);
    for (int64_t row = 0; row < ceilDivide(size.height, step); ++row) {
      const double y = (static_cast<double>(row) + 0.5) * distance / height;
      for (int64_t column = 0; column < ceilDivide(size.width, step); ++column) {
        const double x = (static_cast<double>(column) + 0.5) * distance / width;
        for (int64_t i = 0; i < per_place; ++i, out += 4) {
          const double side = min_sizes[level * per_place + i];
          out[0] = static_cast<float>(x);
          out[1] = static_cast<float>(y);
          out[2] = static_cast<float>(side / width);
          out[3] = static_cast<float>(side / height);
        }
      }
    }
  }
  return priors;
}

}  // namespace fornax
