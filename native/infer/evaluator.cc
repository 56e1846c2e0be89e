#include "infer/evaluator.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <chrono>
#include <string>

#include "core/error.h"
#include "data/labels.h"
#include "graph/executor.h"
#include "graph/prune.h"
#include "metrics/classification.h"

namespace fornax {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

at::Tensor runLoss(const Graph& loss, const Graph& model, const DeviceBatch& device_batch,
                   const std::vector<at::Tensor>& outputs, const Batch& batch) {
  static const std::vector<at::Tensor> no_parameters;
  RunContext context;
  context.parameters = &no_parameters;
  context.device = device_batch.device();
  const auto results = runGraph(loss, device_batch.lossInputs(loss, model, outputs, batch), context);
  for (size_t i = 0; i < results.size(); ++i) {
    if (loss.outputs()[i].name == "loss") return results[i];
  }
  throw Error(ErrorKind::Argument, "the loss graph has no output named `loss`", "loss");
}

// Of several outputs the one named `output`.
size_t findLogits(const Graph& graph) {
  for (size_t i = 0; i < graph.outputs().size(); ++i) {
    if (graph.outputs()[i].name == "output") return i;
  }
  return 0;
}

void checkLogits(const at::Tensor& logits, int64_t classes, int64_t rows) {
  if (logits.dim() != 2 || logits.size(0) != rows) {
    throw Error(ErrorKind::Argument, "the model's first output is not a matrix of logits, one row per sample",
                "evaluate", "evaluate() measures classification only, unless it is told no classes");
  }
  if (logits.size(1) != classes) {
    throw Error(ErrorKind::Argument,
                "the model has " + std::to_string(logits.size(1)) + " classes, evaluate() was told " +
                    std::to_string(classes),
                "evaluate.classes");
  }
}

std::vector<const Graph*> readers(const Graph* loss, const EvaluationOptions& options) {
  std::vector<const Graph*> graphs;
  if (loss) graphs.push_back(loss);
  for (const MetricGraph& metric : options.metrics) graphs.push_back(metric.graph.get());
  return graphs;
}

}  // namespace

EvaluationResult evaluate(const InferenceSession& session, const std::shared_ptr<const Graph>& source_graph,
                          const Graph* loss, BatchSource& source, const EvaluationOptions& options,
                          const std::atomic<bool>& stop, const ProgressFn& progress) {
  if (options.classes < 0) throw Error(ErrorKind::Argument, "classes must be at least 1", "evaluate.classes");
  const c10::InferenceMode inference_mode;
  const auto start = Clock::now();
  const int64_t total = source.samplesPerEpoch();
  const DeviceBatch& device_batch = session.deviceBatch();
  const auto pruned = prune(source_graph, {outputsForAll(*source_graph, readers(loss, options)), {}});
  const Graph& graph = *pruned;
  const size_t logits = findLogits(graph);
  std::optional<ClassificationMetrics> classification;
  if (options.classes > 0) {
    ClassificationOptions counted;
    counted.classes = options.classes;
    counted.cross_entropy = false;  // the loss is a graph
    counted.auroc = options.auroc;
    classification.emplace(counted, device_batch.device());
  }
  GraphMetrics metrics(options.metrics, device_batch.device());
  at::Tensor loss_sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device_batch.device()));
  EvaluationResult result;
  for (Batch batch; source.next(batch, stop) && !stop;) {
    const at::Tensor* label = classification ? &checkedLabels(batch, "label", options.classes) : nullptr;
    const std::vector<at::Tensor> outputs = session.evaluate(graph, batch, stop);
    const int64_t rows = batchSize(batch);
    if (label) {
      checkLogits(outputs[logits], options.classes, rows);
      classification->add(outputs[logits], device_batch.toDevice(*label));
    }
    if (loss) loss_sum += runLoss(*loss, graph, device_batch, outputs, batch).to(at::kDouble) * rows;
    metrics.add(graph, device_batch, outputs, batch);
    result.samples += rows;
    if (progress) progress(result.samples, total);
  }
  if (stop) throw Error(ErrorKind::Aborted, "the evaluation was stopped", "evaluate");
  if (classification) result.classification = classification->read();
  if (loss && result.samples > 0) {
    result.loss = loss_sum.item<double>() / static_cast<double>(result.samples);
  }
  result.metrics = metrics.read();
  result.seconds = secondsSince(start);
  return result;
}

}  // namespace fornax
