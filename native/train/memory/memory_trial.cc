#include "train/memory/memory_trial.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/ragged.h"
#include "device/memory.h"
#include "device/out_of_memory.h"
#include "train/memory/forward_state.h"
#include "train/memory/micro_batches.h"

namespace fornax {

namespace {

int64_t bytesOf(const NamedTensors& tensors, const std::string& prefix = "") {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    if (name.compare(0, prefix.size(), prefix) == 0) bytes += static_cast<int64_t>(tensor.nbytes());
  }
  return bytes;
}

void measure(TrainStep& step, const Batch& batch, c10::Device device, MemoryTrial& result) {
  releaseCachedMemory(device);
  resetMemoryPeak(device);
  const int64_t before = memoryFigures(device).allocated;
  step.beginStep(0);
  step.afterForward(
      [&result, device, before] { result.activations = memoryFigures(device).allocated - before; });
  step.accumulate(step.prepare(step.mixed(batch)), 1);
  result.peak = memoryFigures(device).peak;
  result.gradients = bytesOf(step.trained().namedGradients());
  result.workspace = std::max<int64_t>(0, result.peak - before - result.activations - result.gradients);
  result.fits = true;
}

}  // namespace

Batch rowsOf(const Batch& batch, int64_t rows) {
  const int64_t have = batchSize(batch);
  if (have == 0) throw Error(ErrorKind::Data, "a batch without rows cannot be repeated", "batch");
  if (rows == have) return batch;
  const at::Tensor wanted = at::arange(rows, at::kLong).remainder(have);
  Batch result;
  for (const auto& [name, field] : batch.fields) {
    const at::Tensor* offsets = offsetsOf(batch, name);
    if (!offsets) {
      result.fields.emplace_back(name, field.index_select(0, wanted));
      continue;
    }
    const at::Tensor bounds = offsets->to(at::kCPU, at::kLong);
    const at::Tensor counts = bounds.diff().index_select(0, wanted);
    if (&field == offsets) {
      result.fields.emplace_back(name, at::cat({at::zeros({1}, at::kLong), counts.cumsum(0)}));
      continue;
    }
    std::vector<at::Tensor> pieces;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t from = row % have;
      pieces.push_back(field.slice(0, bounds[from].item<int64_t>(), bounds[from + 1].item<int64_t>()));
    }
    result.fields.emplace_back(name, at::cat(pieces));
  }
  return result;
}

MemoryTrial runMemoryTrial(TrainStep& step, const Batch& batch, int64_t rows, c10::Device device) {
  MemoryTrial result;
  const NamedTensors state = step.resumeState();
  result.weights = bytesOf(step.stateTensors());
  result.average = bytesOf(step.averages());
  result.optimizer = bytesOf(state, "optimizer/") + bytesOf(state, "scaler/");
  result.gradients = step.trained().bytes();
  if (rows == 0) {
    result.fits = true;
    return result;
  }
  if (rows == 1 && step.leastRows(rowsOf(batch, 1)) > 1) {
    result.what = "batch norm in training needs more than one image at a time";
    result.where = "the training step";
    return result;
  }
  step.clearGradients();
  ForwardState before(step.writtenBuffers(), step.generator());
  before.save();
  std::optional<AllocationFailure> failure;
  std::exception_ptr other;
  try {
    failure = allocationFailure([&] { measure(step, rowsOf(batch, rows), device, result); });
  } catch (...) {
    other = std::current_exception();
  }
  step.afterForward(nullptr);
  step.clearGradients();
  before.putBack();
  releaseCachedMemory(device);
  if (other) std::rethrow_exception(other);
  if (failure) {
    result.what = failure->what;
    result.where = failure->where;
  }
  return result;
}

}  // namespace fornax
