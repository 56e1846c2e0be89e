#include "metrics/segmentation.h"

#include <ATen/ATen.h>

#include <string>

#include "core/error.h"

namespace fornax {

namespace {

[[noreturn]] void refuseShape(const std::string& what) {
  throw Error(ErrorKind::Argument, what, "output");
}

// int64 classes [n, …] on `device`.
at::Tensor predictedClasses(const at::Tensor& output, const at::Tensor& mask, int64_t classes,
                            c10::Device device) {
  const bool logits = at::isFloatingType(output.scalar_type());
  if (logits) {
    if (output.dim() != mask.dim() + 1 || output.size(1) != classes) {
      refuseShape("logits must be [n, " + std::to_string(classes) + ", …], a mask [n, …]");
    }
  }
  const at::Tensor prediction = logits ? output.argmax(1) : output;
  if (prediction.sizes() != mask.sizes()) refuseShape("the output and the mask have different sizes");
  if (!at::isIntegralType(prediction.scalar_type(), /*includeBool=*/true)) {
    refuseShape("predicted classes must be integers");
  }
  if (!logits && at::logical_or(prediction.lt(0), prediction.ge(classes)).any().item<bool>()) {
    throw Error(ErrorKind::Argument, "a predicted class is outside 0…" + std::to_string(classes - 1),
                "output");
  }
  return prediction.to(device, at::kLong);
}

}  // namespace

SegmentationMetrics::SegmentationMetrics(const SegmentationOptions& options, c10::Device device)
    : options_(options), device_(device), confusion_(options.classes, device) {}

void SegmentationMetrics::add(const at::Tensor& output, const at::Tensor& mask) {
  if (!at::isIntegralType(mask.scalar_type(), /*includeBool=*/true)) {
    throw Error(ErrorKind::Argument, "a mask must hold integers", "mask");
  }
  const at::Tensor prediction = predictedClasses(output, mask, options_.classes, device_);
  at::Tensor target = mask.to(at::kLong);
  at::Tensor bad = at::logical_or(target.lt(0), target.ge(options_.classes));
  if (options_.ignore_index) bad = at::logical_and(bad, target.ne(*options_.ignore_index));
  if (bad.any().item<bool>()) {
    const int64_t value = target.masked_select(bad)[0].item<int64_t>();
    throw Error(ErrorKind::Data,
                "a mask has the value " + std::to_string(value) + ", outside 0…" +
                    std::to_string(options_.classes - 1),
                "mask", "name the value of unlabelled pixels as ignore_index, or correct the masks");
  }
  confusion_.add(target.to(device_), prediction, options_.ignore_index);
}

}  // namespace fornax
