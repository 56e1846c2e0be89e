#include "train/batch/mixing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "data/labels.h"
#include "data/random.h"
#include "train/batch/device_batch.h"
#include "train/batch/teacher.h"

namespace fornax {

namespace {

constexpr double kTwoPi = 6.28318530717958647692;
// Positions in a step that a process has to itself among the samples of a stream.
constexpr int64_t kPartsPerRank = int64_t{1} << 16;

void require(bool condition, const char* option, const char* expected) {
  if (condition) return;
  throw Error(ErrorKind::Argument, std::string("mix: ") + option + " must be " + expected,
              std::string("mix.") + option);
}

// In (0, 1).
double open(RandomStream& stream) {
  return (stream.next() + 0.5) * 0x1p-32;
}

// Box & Muller 1958; the second number of a pair is not kept, so that each draw stands alone.
double normal(RandomStream& stream) {
  const double radius = std::sqrt(-2 * std::log(open(stream)));
  return radius * std::cos(kTwoPi * open(stream));
}

// Logarithm of a draw from Gamma(shape, 1): Marsaglia & Tsang 2000, section 6 for shapes below 1. Logarithms,
// because draws of small shapes underflow.
double logGamma(RandomStream& stream, double shape) {
  if (shape < 1) {
    const double log_uniform = std::log(open(stream));
    return logGamma(stream, shape + 1) + log_uniform / shape;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(stream);
    const double u = open(stream);
    const double v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(u) < x * x / 2 + d - d * v + d * std::log(v)) return std::log(d) + std::log(v);
  }
}

// From Beta(alpha, alpha).
double beta(RandomStream& stream, double alpha) {
  const double a = logGamma(stream, alpha);
  const double b = logGamma(stream, alpha);
  return 1 / (1 + std::exp(b - a));
}

// timm's rand_bbox: a box of 1 − lam of the area about a point anywhere in the image, cut off at its borders;
// lam becomes what is left of the row itself.
void drawBox(RandomStream& stream, int64_t height, int64_t width, Mixture& mixture) {
  const double ratio = std::sqrt(1 - mixture.lam);
  const auto cut_height = static_cast<int64_t>(static_cast<double>(height) * ratio);
  const auto cut_width = static_cast<int64_t>(static_cast<double>(width) * ratio);
  const auto y = static_cast<int64_t>(stream.below(static_cast<uint32_t>(height)));
  const auto x = static_cast<int64_t>(stream.below(static_cast<uint32_t>(width)));
  mixture.top = std::clamp<int64_t>(y - cut_height / 2, 0, height);
  mixture.bottom = std::clamp<int64_t>(y + (cut_height + 1) / 2, 0, height);
  mixture.left = std::clamp<int64_t>(x - cut_width / 2, 0, width);
  mixture.right = std::clamp<int64_t>(x + (cut_width + 1) / 2, 0, width);
  const auto area = static_cast<double>((mixture.bottom - mixture.top) * (mixture.right - mixture.left));
  mixture.lam = 1 - area / static_cast<double>(height * width);
}

void replaceField(Batch& batch, const std::string& name, at::Tensor tensor) {
  for (auto& [field, value] : batch.fields) {
    if (field != name) continue;
    value = std::move(tensor);
    return;
  }
  batch.fields.emplace_back(name, std::move(tensor));
}

// The one input of a model, as it takes it.
at::Tensor imageOf(const Graph& model, const DeviceBatch& device_batch, const Batch& batch) {
  if (model.inputs().size() != 1) {
    throw Error(ErrorKind::Argument,
                "mixup and cutmix mix one image, but the model has " + std::to_string(model.inputs().size()) +
                    " inputs",
                "mix", "leave them out");
  }
  at::Tensor image = device_batch.modelInputs(model, batch).front();
  if (image.dim() == 4 && image.is_floating_point()) return image;
  throw Error(ErrorKind::Data, "mixup and cutmix need images [N, C, H, W] of floating-point numbers",
              model.inputs().front().name, "give the session a normalisation for uint8 images");
}

}  // namespace

Mixture drawMixture(const MixingOptions& options, uint64_t seed, int64_t step, int64_t part, int64_t rank,
                    int64_t height, int64_t width) {
  Mixture mixture;
  if (options.steps >= 0 && step >= options.steps) return mixture;
  RandomStream stream(seed, static_cast<uint64_t>(step), static_cast<uint64_t>(rank * kPartsPerRank + part),
                      RandomOperation::Mix);
  if (stream.uniform() >= options.prob) return mixture;
  const bool both = options.mixup > 0 && options.cutmix > 0;
  mixture.cut = both ? stream.uniform() < options.switch_prob : options.cutmix > 0;
  mixture.lam = beta(stream, mixture.cut ? options.cutmix : options.mixup);
  if (mixture.cut) drawBox(stream, height, width, mixture);
  return mixture;
}

at::Tensor mixImages(const at::Tensor& images, const Mixture& mixture) {
  if (mixture.lam == 1) return images;
  if (!mixture.cut) return images.mul(mixture.lam).add_(images.flip(0).mul_(1 - mixture.lam));
  const auto box = [&](const at::Tensor& tensor) {
    return tensor.slice(2, mixture.top, mixture.bottom).slice(3, mixture.left, mixture.right);
  };
  at::Tensor mixed = images.clone();
  box(mixed).copy_(box(images).flip(0));
  return mixed;
}

at::Tensor mixLabels(const at::Tensor& labels, int64_t classes, double lam) {
  const at::Tensor own = at::one_hot(labels, classes).to(at::kFloat);
  return lam == 1 ? own : own.mul(lam).add_(own.flip(0).mul_(1 - lam));
}

Mixing::Mixing(const MixingOptions& options, uint64_t seed, int64_t rank)
    : options_(options), seed_(seed), rank_(rank) {
  require(options.classes >= 1, "classes", "at least 1");
  require(std::isfinite(options.mixup) && options.mixup >= 0, "mixup", "at least 0");
  require(std::isfinite(options.cutmix) && options.cutmix >= 0, "cutmix", "at least 0");
  require(options.mixup > 0 || options.cutmix > 0, "mixup", "above 0 where cutmix is 0");
  require(options.prob >= 0 && options.prob <= 1, "prob", "between 0 and 1");
  require(options.switch_prob >= 0 && options.switch_prob <= 1, "switch_prob", "between 0 and 1");
}

void Mixing::checkLabels(const Batch& batch) const {
  const at::Tensor* labels = batch.find(options_.label);
  if (!labels || labels->dim() != 1 || labels->scalar_type() != at::kLong) {
    throw Error(ErrorKind::Data, "mixup and cutmix need the class of each row, int64 [N]", options_.label,
                "leave them out for data without labels");
  }
  checkedLabels(batch, options_.label, options_.classes);
}

Batch Mixing::apply(const Batch& batch, const Graph& model, const DeviceBatch& device_batch,
                    const Teacher* teacher) {
  const at::Tensor image = imageOf(model, device_batch, batch);
  const Mixture mixture = drawMixture(options_, seed_, step_, part_++, rank_, image.size(2), image.size(3));
  Batch mixed = batch;
  if (teacher) {
    replaceField(mixed, kTeacherImage,
                 mixImages(imageOf(teacher->graph(), teacher->deviceBatch(), batch), mixture));
  }
  const std::string& input = model.inputs().front().name;
  replaceField(mixed, batch.find(input) ? input : "image", mixImages(image, mixture));
  replaceField(mixed, options_.label,
               mixLabels(device_batch.toDevice(*batch.find(options_.label)), options_.classes, mixture.lam));
  return mixed;
}

}  // namespace fornax
