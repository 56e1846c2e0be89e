#include "metrics/confusion.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace fornax {

namespace {

// 46340² cells are as many as an int32 counts, and 17 GB.
constexpr int64_t kMostClasses = 46340;

double share(double part, double whole) {
  return whole == 0 ? 0 : part / whole;
}

// Row and column sums of a matrix, and its diagonal.
struct Margins {
  std::vector<int64_t> targets, predictions, hits;
};

Margins marginsOf(const std::vector<int64_t>& confusion, int64_t classes) {
  const auto n = static_cast<size_t>(classes);
  if (confusion.size() != n * n) {
    throw Error(ErrorKind::Argument, "a confusion matrix needs classes × classes cells", "confusion");
  }
  Margins margins{std::vector<int64_t>(n), std::vector<int64_t>(n), std::vector<int64_t>(n)};
  for (size_t row = 0; row < n; ++row) {
    for (size_t column = 0; column < n; ++column) {
      const int64_t count = confusion[row * n + column];
      margins.targets[row] += count;
      margins.predictions[column] += count;
    }
    margins.hits[row] = confusion[row * n + row];
  }
  return margins;
}

}  // namespace

Confusion::Confusion(int64_t classes, c10::Device device) : classes_(classes) {
  if (classes < 1 || classes > kMostClasses) {
    throw Error(ErrorKind::Argument, "classes must be 1 to " + std::to_string(kMostClasses), "classes");
  }
  counts_ = at::zeros({classes * classes + 1}, at::TensorOptions().dtype(at::kLong).device(device));
}

void Confusion::add(const at::Tensor& target, const at::Tensor& prediction, std::optional<int64_t> ignore) {
  at::Tensor cell = target * classes_ + prediction;
  if (ignore) cell = cell.masked_fill(target.eq(*ignore), classes_ * classes_);
  cell = cell.reshape({-1});
  if (!cell.device().is_cpu()) {
    counts_.index_add_(0, cell, at::ones_like(cell));
    return;
  }
  cell = cell.contiguous();
  const int64_t* cells = cell.const_data_ptr<int64_t>();
  int64_t* counts = counts_.mutable_data_ptr<int64_t>();
  const int64_t n = cell.numel();
  for (int64_t i = 0; i < n; ++i) ++counts[cells[i]];
}

std::vector<int64_t> Confusion::read() const {
  const at::Tensor counts = counts_.cpu();
  const int64_t* cells = counts.const_data_ptr<int64_t>();
  return {cells, cells + classes_ * classes_};
}

ConfusionScores scoreConfusion(const std::vector<int64_t>& confusion, int64_t classes) {
  Margins margins = marginsOf(confusion, classes);
  ConfusionScores scores;
  double occurring = 0;
  double total = 0;
  for (size_t c = 0; c < margins.hits.size(); ++c) {
    const auto hits = static_cast<double>(margins.hits[c]);
    const auto there = static_cast<double>(margins.targets[c]);
    const auto said = static_cast<double>(margins.predictions[c]);
    const double precision = share(hits, said);
    const double recall = share(hits, there);
    const double f1 = share(2 * hits, there + said);
    scores.precision.push_back(precision);
    scores.recall.push_back(recall);
    scores.f1.push_back(f1);
    if (there + said > 0) ++occurring;
    total += there;
    scores.macro.precision += precision;
    scores.macro.recall += recall;
    scores.macro.f1 += f1;
    scores.weighted.precision += precision * there;
    scores.weighted.recall += recall * there;
    scores.weighted.f1 += f1 * there;
  }
  auto divide = [](Averages& sums, double by) {
    sums = {share(sums.precision, by), share(sums.recall, by), share(sums.f1, by)};
  };
  divide(scores.macro, occurring);
  divide(scores.weighted, total);
  scores.support = std::move(margins.targets);
  return scores;
}

OverlapScores scoreOverlap(const std::vector<int64_t>& confusion, int64_t classes) {
  const Margins margins = marginsOf(confusion, classes);
  OverlapScores scores;
  double hits_of_all = 0;
  double occurring = 0;
  for (size_t c = 0; c < margins.hits.size(); ++c) {
    const auto hits = static_cast<double>(margins.hits[c]);
    const auto areas = static_cast<double>(margins.targets[c] + margins.predictions[c]);
    scores.pixels += margins.targets[c];
    hits_of_all += hits;
    if (areas == 0) {
      scores.iou.push_back(std::nullopt);
      scores.dice.push_back(std::nullopt);
      continue;
    }
    scores.iou.push_back(hits / (areas - hits));
    scores.dice.push_back(2 * hits / areas);
    scores.miou += *scores.iou.back();
    scores.mean_dice += *scores.dice.back();
    ++occurring;
  }
  scores.miou = share(scores.miou, occurring);
  scores.mean_dice = share(scores.mean_dice, occurring);
  scores.pixel_accuracy = share(hits_of_all, static_cast<double>(scores.pixels));
  return scores;
}

}  // namespace fornax
