#include "metrics/auroc.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fornax {

namespace {

// Classes that are handled in one pass over the rows: a cache line of scores.
constexpr int64_t kBlock = 16;

struct Rows {
  std::vector<const float*> scores;  // one row of `classes` values per sample
  const int64_t* labels;
};

// One class: its positives' scores sorted, and twice the number of rightly ordered pairs so far.
struct OneVsRest {
  std::vector<float> positives;
  int64_t negatives = 0;
  int64_t doubled_wins = 0;
  bool nan = false;

  void addNegative(float score) {
    if (std::isnan(score)) {
      nan = true;
      return;
    }
    const auto [first, last] = std::equal_range(positives.begin(), positives.end(), score);
    ++negatives;
    doubled_wins += 2 * (positives.end() - last) + (last - first);
  }

  std::optional<double> area() const {
    if (nan) return std::numeric_limits<double>::quiet_NaN();
    if (positives.empty() || negatives == 0) return std::nullopt;
    return static_cast<double>(doubled_wins) /
           (2.0 * static_cast<double>(positives.size()) * static_cast<double>(negatives));
  }
};

void areasOfBlock(const Rows& rows, int64_t first, int64_t end, std::optional<double>* areas) {
  std::vector<OneVsRest> block(static_cast<size_t>(end - first));
  for (size_t i = 0; i < rows.scores.size(); ++i) {
    const int64_t label = rows.labels[i];
    if (label < first || label >= end) continue;
    OneVsRest& one = block[static_cast<size_t>(label - first)];
    const float score = rows.scores[i][label];
    if (std::isnan(score))
      one.nan = true;
    else
      one.positives.push_back(score);
  }
  for (OneVsRest& one : block) std::sort(one.positives.begin(), one.positives.end());
  for (size_t i = 0; i < rows.scores.size(); ++i) {
    for (int64_t c = first; c < end; ++c) {
      if (rows.labels[i] != c) block[static_cast<size_t>(c - first)].addNegative(rows.scores[i][c]);
    }
  }
  for (int64_t c = first; c < end; ++c) areas[c] = block[static_cast<size_t>(c - first)].area();
}

}  // namespace

std::vector<std::optional<double>> aurocOneVsRest(const std::vector<at::Tensor>& scores,
                                                  const at::Tensor& labels, int64_t classes) {
  Rows rows;
  rows.labels = labels.const_data_ptr<int64_t>();
  rows.scores.reserve(static_cast<size_t>(labels.numel()));
  for (const at::Tensor& part : scores) {
    const float* data = part.const_data_ptr<float>();
    for (int64_t i = 0; i < part.size(0); ++i) rows.scores.push_back(data + i * classes);
  }
  std::vector<std::optional<double>> areas(static_cast<size_t>(classes));
  const int64_t blocks = (classes + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      areasOfBlock(rows, block * kBlock, std::min(classes, (block + 1) * kBlock), areas.data());
    }
  });
  return areas;
}

}  // namespace fornax
