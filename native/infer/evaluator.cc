#include "infer/evaluator.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "core/error.h"
#include "graph/executor.h"
#include "graph/prune.h"

namespace fornax {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Which sample of the data set a row is, if the batch says so.
std::string describeRow(const Batch& batch, int64_t row) {
  const at::Tensor* index = batch.find("index");
  if (!index) return "row " + std::to_string(row) + " of a batch";
  return "sample " + std::to_string((*index)[row].item<int64_t>());
}

// Labels come from the loader and still lie on the CPU here, so that looking at them does not wait for the
// device.
const at::Tensor& checkedLabels(const Batch& batch, int64_t classes) {
  const at::Tensor* label = batch.find("label");
  if (!label) throw Error(ErrorKind::Data, "the data has no labels", "batch", "evaluate on a labelled set");
  if (label->dim() != 1 || label->scalar_type() != at::kLong) {
    throw Error(ErrorKind::Data, "`label` must be int64 with one value per sample", "batch.label");
  }
  const at::Tensor bad = at::logical_or(label->lt(0), label->ge(classes)).nonzero();
  if (bad.numel() > 0) {
    const int64_t row = bad[0].item<int64_t>();
    throw Error(ErrorKind::Data,
                "label " + std::to_string((*label)[row].item<int64_t>()) + " is outside 0…" +
                    std::to_string(classes - 1),
                describeRow(batch, row), "the data has other classes than the model");
  }
  return *label;
}

class Accumulator {
 public:
  Accumulator(int64_t classes, c10::Device device)
      : classes_(classes),
        loss_(at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device))),
        counts_(at::zeros({2}, at::TensorOptions().dtype(at::kLong).device(device))),
        confusion_(at::zeros({classes * classes}, at::TensorOptions().dtype(at::kLong).device(device))) {}

  void add(const at::Tensor& logits, const at::Tensor& label) {
    const int64_t k = std::min<int64_t>(5, classes_);
    const at::Tensor ranked = std::get<1>(logits.topk(k, 1));
    const at::Tensor prediction = ranked.select(1, 0);
    const at::Tensor hits = ranked.eq(label.unsqueeze(1));
    counts_[0] += hits.select(1, 0).sum();
    counts_[1] += hits.sum();
    confusion_.index_add_(0, label * classes_ + prediction, at::ones_like(label));
    samples_ += label.size(0);
  }

  void addLoss(const at::Tensor& mean, int64_t samples) { loss_ += mean.to(at::kDouble) * samples; }

  EvaluationResult read(bool with_loss) const {
    EvaluationResult result;
    result.samples = samples_;
    result.classes = classes_;
    const double count = static_cast<double>(std::max<int64_t>(samples_, 1));
    if (with_loss && samples_ > 0) result.loss = loss_.item<double>() / count;
    const at::Tensor counts = counts_.cpu();
    result.top1 = static_cast<double>(counts[0].item<int64_t>()) / count;
    result.top5 = static_cast<double>(counts[1].item<int64_t>()) / count;
    const at::Tensor confusion = confusion_.cpu();
    const int64_t* cells = confusion.const_data_ptr<int64_t>();
    result.confusion.assign(cells, cells + confusion.numel());
    return result;
  }

  int64_t samples() const { return samples_; }

 private:
  int64_t classes_;
  int64_t samples_ = 0;
  at::Tensor loss_;    // sum over samples
  at::Tensor counts_;  // hits among the first one and five
  at::Tensor confusion_;
};

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

void checkLogits(const std::vector<at::Tensor>& outputs, int64_t classes, int64_t rows) {
  if (outputs.empty() || outputs[0].dim() != 2 || outputs[0].size(0) != rows) {
    throw Error(ErrorKind::Argument, "the model's first output is not a matrix of logits, one row per sample",
                "evaluate", "evaluate() measures classification only");
  }
  if (outputs[0].size(1) != classes) {
    throw Error(ErrorKind::Argument,
                "the model has " + std::to_string(outputs[0].size(1)) + " classes, evaluate() was told " +
                    std::to_string(classes),
                "evaluate.classes");
  }
}

}  // namespace

EvaluationResult evaluate(const InferenceSession& session, const std::shared_ptr<const Graph>& source_graph,
                          const Graph* loss, BatchSource& source, const EvaluationOptions& options,
                          const std::atomic<bool>& stop, const ProgressFn& progress) {
  if (options.classes < 1) throw Error(ErrorKind::Argument, "classes must be at least 1", "evaluate.classes");
  const c10::InferenceMode inference_mode;
  const auto start = Clock::now();
  const int64_t total = source.samplesPerEpoch();
  const DeviceBatch& device_batch = session.deviceBatch();
  const auto pruned = prune(source_graph, {outputsForLoss(*source_graph, loss), {}});
  const Graph& graph = *pruned;
  Accumulator accumulator(options.classes, device_batch.device());
  for (Batch batch; source.next(batch, stop) && !stop;) {
    const at::Tensor& label = checkedLabels(batch, options.classes);
    const std::vector<at::Tensor> outputs = session.evaluate(graph, batch, stop);
    checkLogits(outputs, options.classes, label.size(0));
    accumulator.add(outputs[0], device_batch.toDevice(label));
    if (loss) accumulator.addLoss(runLoss(*loss, graph, device_batch, outputs, batch), label.size(0));
    if (progress) progress(accumulator.samples(), total);
  }
  if (stop) throw Error(ErrorKind::Aborted, "the evaluation was stopped", "evaluate");
  EvaluationResult result = accumulator.read(loss != nullptr);
  result.seconds = secondsSince(start);
  return result;
}

}  // namespace fornax
