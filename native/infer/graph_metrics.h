// Metrics that a script has traced: graphs over the model's outputs and the batch's fields, averaged over the
// samples. Summed in tensors on the device and read at the end. Runs on the caller's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "train/batch/device_batch.h"

namespace fornax {

struct MetricGraph {
  std::string name;
  std::shared_ptr<const Graph> graph;  // with one output and no parameters
};

class GraphMetrics {
 public:
  // ArgumentError for a graph with parameters of its own or several outputs.
  GraphMetrics(std::vector<MetricGraph> graphs, c10::Device device);

  // `model` is the graph that computed `outputs`. Each metric gives one value for the batch (a mean over its
  // samples) or one for each sample. DataError for an input that is neither output nor field, ArgumentError
  // for a result of another shape.
  void add(const Graph& model, const DeviceBatch& device_batch, const std::vector<at::Tensor>& outputs,
           const Batch& batch);

  // Means over all samples; waits for the device.
  std::vector<std::pair<std::string, double>> read() const;

 private:
  std::vector<MetricGraph> graphs_;
  std::vector<at::Tensor> sums_;  // float64 scalars
  int64_t samples_ = 0;
};

}  // namespace fornax
