// Rewrites a graph for training: the list of the passes in native/train/passes. What the graph is fed with
// and gives out stays as it is, and every node keeps a module path by which modes find it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "graph/graph.h"
#include "train/options.h"

namespace fornax {

struct Preparation {
  c10::Device device = c10::kCPU;
  Precision precision = Precision::Float32;
  bool fuse = true;  // exchange and fuse operators for speed (CPU only)
  // The ProcessGroup over whose batches batch norms take their statistics.
  std::optional<int64_t> batch_norm_group = std::nullopt;
};

// The same graph where there is nothing to gain.
std::shared_ptr<const Graph> prepareForTraining(std::shared_ptr<const Graph> graph,
                                                const Preparation& preparation);

}  // namespace fornax
