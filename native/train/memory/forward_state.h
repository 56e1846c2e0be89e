// What a forward changes beside its results: the statistics of batch norms in training, and the session's
// generator. Saved before each step, so that an attempt that ran out of memory half-way leaves no trace. Used
// on the session's thread only.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/shapes.h"

namespace fornax {

// The parameters of the graph, by index, that running it in these modes may write to. None that autograd
// trains.
std::vector<size_t> writtenBuffers(const Graph& graph, const ModeTable& modes);

// Batch norms that normalise by the batch.
int64_t trainingBatchNorms(const Graph& graph, const ModeTable& modes);

// 2 where a batch norm that normalises by the batch sees one value per row and channel, and so refuses one
// row; else 1. `inputs` are two rows, and the graph is without fused operators.
int64_t leastRowsOf(const Graph& graph, const ModeTable& modes, const std::vector<InputShape>& inputs);

class ForwardState {
 public:
  ForwardState(std::vector<at::Tensor> buffers, at::Generator generator)
      : buffers_(std::move(buffers)), generator_(std::move(generator)) {}

  // Copies; memory is allocated the first time only. Does not wait for the device.
  void save();
  // The reverse of the last save().
  void putBack();
  // Of the buffers only; with `flag` (a scalar on their device) only where that is not 0, which nobody waits
  // for.
  void putBackBuffers();
  void putBackBuffersWhere(const at::Tensor& flag);

 private:
  std::vector<at::Tensor> buffers_, saved_;
  at::Generator generator_;
  at::Tensor generator_state_;
};

}  // namespace fornax
