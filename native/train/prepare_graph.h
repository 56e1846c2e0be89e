// Rewrites a graph for training: operators are exchanged for ones that compute the same faster. What the
// graph is fed with and gives out stays as it is, and so do the module paths of its nodes.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>

#include "graph/graph.h"
#include "train/options.h"

namespace fornax {

// The same graph where there is nothing to gain.
std::shared_ptr<const Graph> prepareForTraining(std::shared_ptr<const Graph> graph, c10::Device device,
                                                Precision precision);

// Every batch norm takes its statistics over the batches of all processes of the group
// (native/dist/sync_batch_norm.cc).
std::shared_ptr<const Graph> synchronizeBatchNorm(std::shared_ptr<const Graph> graph, int64_t group);

}  // namespace fornax
