// Loss, metrics and the figures of a classifier over one epoch of a source. Everything is counted in tensors
// on the model's device and read at the end, so that no batch waits for the one before. Runs on the caller's
// thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "infer/graph_metrics.h"
#include "infer/session.h"
#include "metrics/classification.h"

namespace fornax {

struct EvaluationOptions {
  int64_t classes = 0;  // 0: not a classifier, only loss and metrics are computed
  bool auroc = false;   // keeps every score: see ClassificationOptions
  std::vector<MetricGraph> metrics;
};

struct EvaluationResult {
  int64_t samples = 0;
  std::optional<double> loss;  // mean over samples
  std::optional<ClassificationResult> classification;
  std::vector<std::pair<std::string, double>> metrics;  // as EvaluationOptions has them
  double seconds = 0;
};

// Samples done and samples in all.
using ProgressFn = std::function<void(int64_t done, int64_t total)>;

// Of a classifier the output `output` of `graph`, or else the first one, is the logits [N, classes]; labels
// are the int64 field `label` [N]. `loss` (may be null) is a graph over outputs and fields, as in training.
// Throws DataError for a missing label or one outside [0, classes), ArgumentError if the logits do not have
// `classes` columns, AbortedError once `stop` is true.
EvaluationResult evaluate(const InferenceSession& session, const std::shared_ptr<const Graph>& graph,
                          const Graph* loss, BatchSource& source, const EvaluationOptions& options,
                          const std::atomic<bool>& stop, const ProgressFn& progress);

}  // namespace fornax
