// Recomputes the running statistics of batch norm from data: population statistics of the activations under
// the present weights, instead of the moving average that training leaves (PreciseBN; Wu & Johnson 2021).
// Each layer normalises by its own batch while the pass runs; dropout and stochastic depth are off. Runs on
// the caller's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "infer/session.h"

namespace fornax {

struct RecomputeOptions {
  int64_t batches = 200;  // at most
  std::vector<std::string>
      frozen;  // module paths whose batch norms keep their statistics and normalise by them
};

struct RecomputeResult {
  int64_t layers = 0;    // batch norms that got new statistics
  int64_t inactive = 0;  // dropout and stochastic depth nodes, which were off
  int64_t batches = 0;
  int64_t samples = 0;
  double seconds = 0;
};

// Mean, and variance over the population (biased), of each channel over all elements of all batches,
// accumulated in float64. The session's state changes at the end only: after an exception it is as before.
// DataError if the source gives nothing, ArgumentError if the model has no batch norm with statistics,
// AbortedError once `stop` is true, else as runGraph.
RecomputeResult recomputeBatchNorm(InferenceSession& session, const Graph& graph, BatchSource& source,
                                   const RecomputeOptions& options, const std::atomic<bool>& stop,
                                   const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace fornax
