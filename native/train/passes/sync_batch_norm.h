// Batch norm that takes its statistics over the batches of all processes (native/dist/sync_batch_norm.cc).
#pragma once

#include <cstdint>

#include "graph/spec.h"

namespace fornax {

// Exchanges every batch norm. `group` is the id of the ProcessGroup. Whether it changed the graph.
bool synchronizeBatchNorm(GraphSpec& spec, int64_t group);

}  // namespace fornax
