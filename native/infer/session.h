// Runs a model forward. Holds the model's tensors as its device and layout want them: shared with the model
// where nothing has to be converted, copies otherwise (see refresh). Any number of threads may call forward()
// at once; the thread sets up its own compute settings (setUpComputeThread) beforehand.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/prune.h"
#include "graph/state.h"
#include "train/batch/device_batch.h"
#include "train/options.h"

namespace fornax {

struct InferenceOptions {
  c10::Device device = c10::kCPU;
  int threads = 0;  // intra-op; 0: libtorch's default
  int workers = 1;
  bool channels_last = false;
  Precision precision = Precision::Float32;
  std::optional<Normalize> normalize;
};

struct ForwardOptions {
  Modes modes;
  std::vector<std::string> taps;  // module paths
  // Names of the outputs to compute. Absent: all of them, but without the auxiliary ones if everything runs
  // in eval mode.
  std::optional<std::vector<std::string>> outputs;
  uint64_t seed = 0;
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class InferenceSession {
 public:
  InferenceSession(std::shared_ptr<State> state, InferenceOptions options);

  const InferenceOptions& options() const { return options_; }

  // Outputs by name, then taps by module path; what neither needs is not computed. ArgumentError for a
  // missing input, an unknown output or tap; else as runGraph.
  NamedTensors forward(const std::shared_ptr<const Graph>& graph, const Batch& inputs,
                       const ForwardOptions& options, const std::atomic<bool>& stop) const;

  // The model's outputs in order, in eval mode and inference mode: for evaluation, where nobody keeps them.
  std::vector<at::Tensor> evaluate(const Graph& graph, const Batch& inputs,
                                   const std::atomic<bool>& stop) const;

  // Brings a batch to the session's device and form.
  const DeviceBatch& deviceBatch() const { return device_batch_; }

  // Converts the model's tensors again, after they have changed.
  void refresh();

  // The model's tensors as this session has them, in the order of the state.
  std::shared_ptr<const std::vector<at::Tensor>> parameters() const;
  // Writes values into an entry of the model's state, and into this session's copy of it.
  void assign(size_t index, const at::Tensor& values);

 private:
  std::shared_ptr<State> state_;
  InferenceOptions options_;
  DeviceBatch device_batch_;
  mutable PrunedGraphs pruned_;
  mutable std::mutex mutex_;
  std::shared_ptr<const std::vector<at::Tensor>> parameters_;
};

}  // namespace fornax
