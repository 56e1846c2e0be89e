#include "infer/graph_metrics.h"

#include <ATen/ATen.h>

#include <sstream>

#include "core/error.h"
#include "graph/executor.h"

namespace fornax {

namespace {

std::string placeOf(const MetricGraph& metric) {
  return "metrics." + metric.name;
}

// The sum over the rows of a batch.
at::Tensor sumOf(const MetricGraph& metric, const at::Tensor& value, int64_t rows) {
  if (value.numel() == 1 && value.dim() == 0) return value.to(at::kDouble) * rows;
  if (value.dim() == 1 && value.size(0) == rows) return value.to(at::kDouble).sum();
  std::ostringstream shape;
  shape << value.sizes();
  throw Error(ErrorKind::Argument,
              "the metric's result has the shape " + shape.str() + " for a batch of " + std::to_string(rows),
              placeOf(metric), "return one number for the batch, or a vector with one for each sample");
}

}  // namespace

GraphMetrics::GraphMetrics(std::vector<MetricGraph> graphs, c10::Device device) : graphs_(std::move(graphs)) {
  for (const MetricGraph& metric : graphs_) {
    if (metric.graph->outputs().size() != 1) {
      throw Error(ErrorKind::Argument, "a metric has one output", placeOf(metric));
    }
    if (!metric.graph->parameters().empty()) {
      throw Error(ErrorKind::Argument, "the metric has parameters of its own", placeOf(metric),
                  "make them part of the model and pass what they compute as an output");
    }
    sums_.push_back(at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device)));
  }
}

void GraphMetrics::add(const Graph& model, const DeviceBatch& device_batch,
                       const std::vector<at::Tensor>& outputs, const Batch& batch) {
  static const std::vector<at::Tensor> no_parameters;
  const int64_t rows = batchSize(batch);
  for (size_t i = 0; i < graphs_.size(); ++i) {
    const MetricGraph& metric = graphs_[i];
    RunContext context;
    context.parameters = &no_parameters;
    context.device = device_batch.device();
    const auto values =
        runGraph(*metric.graph,
                 device_batch.lossInputs(*metric.graph, model, outputs, batch, placeOf(metric)), context);
    sums_[i] += sumOf(metric, values[0], rows);
  }
  samples_ += rows;
}

std::vector<std::pair<std::string, double>> GraphMetrics::read() const {
  std::vector<std::pair<std::string, double>> means;
  for (size_t i = 0; i < graphs_.size(); ++i) {
    means.emplace_back(graphs_[i].name, sums_[i].item<double>() / static_cast<double>(samples_));
  }
  return means;
}

}  // namespace fornax
