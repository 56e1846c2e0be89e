// The `Graph` class of the contract: a validated graph and its state.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/state.h"

namespace fornax::bindings {

// What a Graph handle owns and sessions share. `graph` may be replaced by a retrace; take a copy of the
// pointer.
struct Model {
  std::shared_ptr<const Graph> graph;
  std::shared_ptr<State> state;
};

// ArgumentError if it is not a Graph, DisposedError after dispose(). The Model outlives the handle if held.
std::shared_ptr<Model> unwrapGraph(Napi::Value value, const std::string& what);

// A plain graph object (src/graph/format.ts) → spec; GraphError where it is not of the right form.
GraphSpec readGraphSpec(Napi::Value value);
// The `Modes` object of the contract.
Modes readModes(Napi::Value value, const std::string& what);

}  // namespace fornax::bindings
