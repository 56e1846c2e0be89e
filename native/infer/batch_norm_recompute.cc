#include "infer/batch_norm_recompute.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "graph/executor.h"

namespace fornax {

namespace {

using Clock = std::chrono::steady_clock;

// Where fornax::batch_norm (native/graph/operators.cc) has its arguments.
constexpr size_t kInput = 0;
constexpr size_t kRunningMean = 3;
constexpr size_t kRunningVar = 4;

// Sums over all batches, float64 on the device.
struct Moments {
  at::Tensor mean, square;  // Σ n·mean, Σ n·E[x²]
  double count = 0;         // Σ n, elements of a channel

  void add(const at::Tensor& batch_mean, const at::Tensor& unbiased, double n) {
    const at::Tensor m = batch_mean.to(at::kDouble);
    const at::Tensor s = m.square() + unbiased.to(at::kDouble) * ((n - 1) / n);
    mean = mean.defined() ? mean + m * n : m * n;
    square = square.defined() ? square + s * n : s * n;
    count += n;
  }
};

bool isBatchNorm(const Node& node) {
  return node.modal && node.mode_kind == ModeKind::BatchNorm && node.name.rfind("fornax::batch_norm", 0) == 0;
}

// Buffers are copied, all of them: batch norm is the only one that writes to any.
std::vector<at::Tensor> withCopiedBuffers(const Graph& graph, const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> copies = tensors;
  for (size_t i = 0; i < copies.size(); ++i) {
    if (!graph.parameters()[i].trainable) copies[i] = copies[i].clone();
  }
  return copies;
}

int64_t countInactive(const Graph& graph) {
  return std::count_if(graph.nodes().begin(), graph.nodes().end(),
                       [](const Node& node) { return node.modal && node.mode_kind != ModeKind::BatchNorm; });
}

Modes recomputeModes(const std::vector<std::string>& frozen) {
  Modes modes;
  modes.batch_norm = Mode::Recompute;
  for (const std::string& prefix : frozen) {
    modes.overrides.push_back({prefix, ModeKind::BatchNorm, Mode::Eval});
  }
  return modes;
}

}  // namespace

RecomputeResult recomputeBatchNorm(InferenceSession& session, const Graph& graph, BatchSource& source,
                                   const RecomputeOptions& options, const std::atomic<bool>& stop,
                                   const std::function<void(int64_t done, int64_t total)>& progress) {
  if (options.batches < 1) throw Error(ErrorKind::Argument, "batches must be at least 1", "batches");
  const c10::NoGradGuard no_grad;
  const auto start = Clock::now();
  const auto tensors = session.parameters();
  const std::vector<at::Tensor> work = withCopiedBuffers(graph, *tensors);
  std::unordered_map<const c10::TensorImpl*, size_t> index;
  for (size_t i = 0; i < work.size(); ++i) index[work[i].unsafeGetTensorImpl()] = i;
  const ModeTable modes = resolveModes(graph, recomputeModes(options.frozen));

  // By the places of running mean and variance in the state: a layer that runs twice is one layer.
  std::map<std::pair<size_t, size_t>, Moments> layers;
  RunContext context;
  context.parameters = &work;
  context.modes = &modes;
  context.device = session.options().device;
  context.stop = &stop;
  context.observer = [&](size_t node, const std::vector<c10::IValue>& arguments,
                         const std::vector<at::Tensor>&) {
    if (!isBatchNorm(graph.nodes()[node]) || modes[node] != Mode::Recompute) return;
    if (!arguments[kRunningMean].isTensor() || !arguments[kRunningVar].isTensor()) return;
    const at::Tensor& input = arguments[kInput].toTensor();
    const at::Tensor& mean = arguments[kRunningMean].toTensor();
    const at::Tensor& variance = arguments[kRunningVar].toTensor();
    if (!mean.defined() || !variance.defined()) return;
    const auto n = static_cast<double>(input.numel() / input.size(1));
    layers[{index.at(mean.unsafeGetTensorImpl()), index.at(variance.unsafeGetTensorImpl())}].add(mean,
                                                                                                 variance, n);
  };

  RecomputeResult result;
  result.inactive = countInactive(graph);
  const int64_t total = std::min(options.batches, source.batchesPerEpoch());
  const DeviceBatch& device_batch = session.deviceBatch();
  for (Batch batch; result.batches < options.batches && source.next(batch, stop);) {
    runGraph(graph, device_batch.modelInputs(graph, batch), context);
    ++result.batches;
    if (!batch.fields.empty() && batch.fields[0].second.dim() > 0) {
      result.samples += batch.fields[0].second.size(0);
    }
    if (progress) progress(result.batches, total);
  }
  if (stop) throw Error(ErrorKind::Aborted, "recomputing batch norm was stopped", "recomputeBatchNorm");
  if (result.batches == 0) {
    throw Error(ErrorKind::Data, "there is no batch to recompute batch norm from", "recomputeBatchNorm");
  }
  if (layers.empty()) {
    throw Error(ErrorKind::Argument, "the model has no batch norm whose statistics could be recomputed",
                "recomputeBatchNorm");
  }
  for (const auto& [places, moments] : layers) {
    const at::Tensor mean = moments.mean / moments.count;
    const at::Tensor variance = (moments.square / moments.count - mean.square()).clamp_min(0);
    session.assign(places.first, mean);
    session.assign(places.second, variance);
  }
  result.layers = static_cast<int64_t>(layers.size());
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

}  // namespace fornax
