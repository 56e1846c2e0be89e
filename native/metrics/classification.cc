#include "metrics/classification.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "metrics/auroc.h"

namespace fornax {

const at::Tensor& checkLabels(const at::Tensor& label, int64_t classes) {
  const at::Tensor bad = at::logical_or(label.lt(0), label.ge(classes)).reshape({-1}).nonzero();
  if (bad.numel() == 0) return label;
  const int64_t row = bad[0].item<int64_t>();
  throw Error(ErrorKind::Data,
              "label " + std::to_string(label.reshape({-1})[row].item<int64_t>()) + " is outside 0…" +
                  std::to_string(classes - 1),
              "label[" + std::to_string(row) + "]", "the data has other classes than the model");
}

ClassificationMetrics::ClassificationMetrics(const ClassificationOptions& options, c10::Device device)
    : options_(options), confusion_(options.classes, device), keep_scores_(options.auroc) {
  if (options.bins < 1 || options.bins > 1'000'000) {
    throw Error(ErrorKind::Argument, "there must be 1 to 1,000,000 bins", "bins");
  }
  const auto of = [device](at::ScalarType type) { return at::TensorOptions().dtype(type).device(device); };
  hits_ = at::zeros({2}, of(at::kLong));
  cross_entropy_ = at::zeros({}, of(at::kDouble));
  bounds_ = at::linspace(0, 1, options.bins + 1, of(at::kFloat));
  bins_ = at::zeros({3, options.bins + 1}, of(at::kDouble));
}

void ClassificationMetrics::add(const at::Tensor& logits, const at::Tensor& label) {
  if (logits.dim() != 2 || logits.size(1) != options_.classes || !at::isFloatingType(logits.scalar_type())) {
    throw Error(ErrorKind::Argument, "logits must be floating [n, " + std::to_string(options_.classes) + "]",
                "logits");
  }
  if (label.dim() != 1 || label.size(0) != logits.size(0) || label.scalar_type() != at::kLong) {
    throw Error(ErrorKind::Argument, "labels must be int64 with one value per row of the logits", "label");
  }
  if (label.numel() == 0) return;
  const at::Tensor values = logits.to(at::kFloat);
  const at::Tensor ranked = std::get<1>(values.topk(std::min<int64_t>(5, options_.classes), 1));
  const at::Tensor prediction = ranked.select(1, 0);
  const at::Tensor hits = ranked.eq(label.unsqueeze(1));
  const at::Tensor hit = hits.select(1, 0);
  hits_[0] += hit.sum();
  hits_[1] += hits.sum();
  confusion_.add(label, prediction);
  samples_ += label.size(0);

  if (options_.cross_entropy) {
    const at::Tensor picked = values.to(at::kDouble).log_softmax(1).gather(1, label.unsqueeze(1));
    cross_entropy_ -= picked.sum();
  }
  const at::Tensor probabilities = values.softmax(1);
  const at::Tensor confidence = probabilities.amax(1);
  // A confidence that is NaN lies beyond the last boundary, as in bucketize: in the last bin.
  const at::Tensor bin = at::bucketize(confidence, bounds_, /*out_int32=*/false, /*right=*/true) - 1;
  const at::Tensor ones = at::ones_like(confidence);
  const at::Tensor counted = at::stack({ones, confidence, hit.to(at::kFloat)}).to(at::kDouble);
  bins_.scatter_add_(1, bin.unsqueeze(0).expand_as(counted), counted);
  keepScores(probabilities, label);
}

void ClassificationMetrics::keepScores(const at::Tensor& probabilities, const at::Tensor& label) {
  if (!keep_scores_) return;
  if (samples_ * options_.classes * static_cast<int64_t>(sizeof(float)) > options_.auroc_bytes) {
    keep_scores_ = false;
    scores_.clear();
    labels_.clear();
    return;
  }
  scores_.push_back(probabilities);
  labels_.push_back(label);
}

ClassificationResult ClassificationMetrics::read() const {
  ClassificationResult result;
  result.samples = samples_;
  const double count = static_cast<double>(std::max<int64_t>(samples_, 1));
  const at::Tensor hits = hits_.cpu();
  result.top1 = static_cast<double>(hits[0].item<int64_t>()) / count;
  result.top5 = static_cast<double>(hits[1].item<int64_t>()) / count;
  if (options_.cross_entropy && samples_ > 0) result.cross_entropy = cross_entropy_.item<double>() / count;
  // |hits/n − confidence/n| · n/samples, summed over the bins.
  result.ece = (bins_[2] - bins_[1]).abs().sum().item<double>() / count;
  result.confusion = confusion_.read();
  result.scores = scoreConfusion(result.confusion, options_.classes);
  if (keep_scores_ && samples_ > 0) {
    std::vector<at::Tensor> scores;
    for (const at::Tensor& part : scores_) scores.push_back(part.cpu().contiguous());
    result.auroc_per_class = aurocOneVsRest(scores, at::cat(labels_).cpu().contiguous(), options_.classes);
    double sum = 0;
    int64_t present = 0;
    for (const auto& area : result.auroc_per_class) {
      if (!area) continue;
      sum += *area;
      ++present;
    }
    if (present > 0) result.auroc = sum / static_cast<double>(present);
  }
  return result;
}

}  // namespace fornax
