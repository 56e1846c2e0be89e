#include "train/memory/micro_batches.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "data/ragged.h"
#include "device/memory.h"
#include "device/out_of_memory.h"

namespace fornax {

namespace {

int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

std::string withoutPrefix(const std::string& what) {
  const std::string prefix = "out of memory: ";
  return what.compare(0, prefix.size(), prefix) == 0 ? what.substr(prefix.size()) : what;
}

std::string images(int64_t rows) {
  return rows == 1 ? "one image" : std::to_string(rows) + " images";
}

}  // namespace

Batch partOf(const Batch& batch, int64_t count, int64_t index) {
  if (count == 1) return batch;
  const int64_t rows = batchSize(batch);
  const int64_t begin = rows * index / count;
  const int64_t end = rows * (index + 1) / count;
  Batch piece;
  for (const auto& [name, field] : batch.fields) {
    const at::Tensor* offsets = offsetsOf(batch, name);
    if (!offsets) {
      if (field.dim() == 0 || field.size(0) != rows) {
        throw Error(ErrorKind::Data,
                    "a batch that is split needs as many rows in each field: " +
                        std::to_string(field.dim() == 0 ? 0 : field.size(0)) + " instead of " +
                        std::to_string(rows),
                    name);
      }
      piece.fields.emplace_back(name, field.slice(0, begin, end));
      continue;
    }
    if (offsets->dim() != 1 || offsets->size(0) != rows + 1) {
      throw Error(ErrorKind::Data,
                  "offsets need one number for each of the " + std::to_string(rows) +
                      " rows of the batch and one more",
                  name);
    }
    const at::Tensor range = offsets->slice(0, begin, end + 1).to(at::kCPU, at::kLong).contiguous();
    const int64_t* bounds = range.const_data_ptr<int64_t>();
    const bool is_offsets = &field == offsets;
    const bool rises = std::is_sorted(bounds, bounds + (end - begin) + 1);
    if (!rises || bounds[0] < 0 || (!is_offsets && bounds[end - begin] > field.size(0))) {
      throw Error(ErrorKind::Data, "offsets must not fall, and must lie within the values that they split",
                  name);
    }
    piece.fields.emplace_back(
        name, is_offsets ? range - bounds[0] : field.slice(0, bounds[0], bounds[end - begin]));
  }
  return piece;
}

std::vector<at::Tensor> joined(const std::vector<std::vector<at::Tensor>>& parts, int64_t rows) {
  std::vector<at::Tensor> outputs = parts.back();
  for (size_t k = 0; parts.size() > 1 && k < outputs.size(); ++k) {
    std::vector<at::Tensor> column;
    int64_t total = 0;
    for (const auto& part : parts) {
      column.push_back(part[k]);
      total += part[k].dim() == 0 ? 0 : part[k].size(0);
    }
    if (total == rows) outputs[k] = at::cat(column);
  }
  return outputs;
}

MicroBatches::MicroBatches(TrainStep& step, const TrainOptions& options)
    : step_(step),
      device_(options.device),
      retries_(options.on_oom == OnOutOfMemory::Halve && !options.group),
      keeps_(options.nan_watch.has_value()),
      alone_(!options.group),
      batches_per_step_(options.grad_accum),
      rows_(options.micro_batch) {
  checkRows(rows_);
}

void MicroBatches::checkRows(int64_t rows) const {
  if (rows < 0) throw Error(ErrorKind::Argument, "micro_batch must be at least 1", "options.micro_batch");
  if (rows > 0 && !alone_) {
    throw Error(ErrorKind::Argument, "several processes do not split their batches into micro-batches",
                "options.micro_batch", "lower batch_size and raise grad_accum by as much");
  }
}

int64_t MicroBatches::partsOf(int64_t rows) const {
  if (rows_ == 0) return 1;
  // Parts are nearly equal: with no more than this many, none is smaller than least_rows_.
  const int64_t most = rows / least_rows_;
  return std::max<int64_t>(1, std::min(ceilDivide(rows, rows_), most));
}

void MicroBatches::meet(const Batch& batch) {
  const int64_t rows = batchSize(batch);
  largest_batch_ = std::max(largest_batch_, rows);
  const bool may_split = retries_ || rows_ > 0;
  if (!may_split || rows < 2 || least_rows_of_ == step_.sharedGraph()) return;
  const int64_t next = ceilDivide(rows_ == 0 ? rows : rows_.load(), 2);
  if (rows / ceilDivide(rows, next) > 1) return;  // no part of one row, halved or not
  least_rows_ = step_.leastRows(partOf(batch, rows, 0));
  least_rows_of_ = step_.sharedGraph();
}

std::vector<StepInputs> MicroBatches::prepare(const std::vector<Batch>& batches) {
  for (const Batch& batch : batches) meet(batch);
  std::vector<StepInputs> inputs;
  for (const Batch& given : batches) {
    const Batch batch = step_.mixed(given);
    const int64_t parts = partsOf(batchSize(batch));
    for (int64_t i = 0; i < parts; ++i) inputs.push_back(step_.prepare(partOf(batch, parts, i)));
  }
  return inputs;
}

TrainStep::MicroResult MicroBatches::accumulate(const Batch& given, double weight, bool last, bool outputs) {
  meet(given);
  const Batch batch = step_.mixed(given);
  const int64_t rows = batchSize(batch);
  const int64_t parts = partsOf(rows);
  begun_ = true;
  if (parts == 1) return step_.accumulate(step_.prepare(batch), weight, last);
  TrainStep::MicroResult whole;
  std::vector<std::vector<at::Tensor>> pieces;
  for (int64_t i = 0; i < parts; ++i) {
    const Batch micro = partOf(batch, parts, i);
    // By their share of the rows, so that uneven parts add up to the mean over the batch.
    const double share = static_cast<double>(batchSize(micro)) / static_cast<double>(rows);
    TrainStep::MicroResult result =
        step_.accumulate(step_.prepare(micro), weight * share, last && i + 1 == parts);
    const at::Tensor loss = result.loss * share;
    whole.loss = whole.loss.defined() ? whole.loss + loss : loss;
    if (outputs) pieces.push_back(std::move(result.outputs));
  }
  if (outputs) whole.outputs = joined(pieces, rows);
  return whole;
}

// A retrace has other nodes, and another model's worth of buffers.
void MicroBatches::prepareState() {
  if (state_of_ == step_.sharedGraph()) return;
  state_ = std::make_unique<ForwardState>(step_.writtenBuffers(), step_.generator());
  state_of_ = step_.sharedGraph();
}

std::optional<AllocationFailure> MicroBatches::tried(const std::function<void()>& attempt) {
  try {
    return allocationFailure([&] {
      if ((retries_ || keeps_) && !saved_) {
        prepareState();
        state_->save();
        saved_ = true;
      }
      attempt();
    });
  } catch (...) {
    putBack();  // a batch that the step refuses leaves no trace
    throw;
  }
}

void MicroBatches::run(int64_t step, const std::function<void()>& attempt,
                       const std::function<bool()>& let_go, const OnHalved& on_halved) {
  saved_ = false;
  bool released = false;
  for (;;) {
    largest_batch_ = 0;
    begun_ = false;
    step_.beginStep(step);
    step_.give({});  // what an attempt that failed has left
    const std::optional<AllocationFailure> failure = tried(attempt);
    if (!failure) return;
    step_.give({});
    step_.clearGradients();
    if (saved_) state_->putBack();
    const bool freed = let_go && let_go();
    releaseCachedMemory(device_);
    // What was let go of may be enough; and before anything of the batch was computed there is nothing to
    // halve.
    if (retries_ && (freed || !begun_) && !std::exchange(released, true)) continue;
    halve(step, *failure, on_halved);
  }
}

void MicroBatches::halve(int64_t step, const AllocationFailure& failure, const OnHalved& on_halved) {
  const int64_t parts = partsOf(largest_batch_);
  const int64_t from = ceilDivide(largest_batch_, parts);
  const auto giveUp = [&](const std::string& fix) {
    const std::string rows = from == 0 ? "" : ", micro-batch of " + images(from);
    throw OutOfMemoryError(withoutPrefix(failure.what) + " (step " + std::to_string(step + 1) + rows + ")",
                           failure.where, fix, failure.module);
  };
  if (!alone_) {
    giveUp("lower train.batch_size and raise train.grad_accum by as much: several processes do not halve it");
  }
  if (!retries_) {
    giveUp("lower train.batch_size and raise train.grad_accum by as much, or set memory.on_oom to halve");
  }
  const int64_t before = rows_;
  rows_ = ceilDivide(std::max<int64_t>(from, 1), 2);
  if (partsOf(largest_batch_) <= parts) {
    rows_ = before;
    const std::string one = least_rows_ > 1
                                ? "batch norm needs more than one image at a time, and those do not fit"
                                : "not even one image at a time fits";
    giveUp(one +
           ": use smaller images, a smaller model or mixed precision, or give it more memory "
           "(memory.budget, other processes)");
  }
  if (!on_halved) return;
  on_halved({step, failure.what, failure.where, failure.module, from, rows_,
             batches_per_step_ * partsOf(largest_batch_), step_.trainingBatchNorms()});
}

void MicroBatches::inUpdate(int64_t step, const std::function<void()>& update) {
  const auto failure = allocationFailure(update);
  if (!failure) return;
  throw OutOfMemoryError(
      withoutPrefix(failure->what) + " (in the update of step " + std::to_string(step + 1) +
          ", which is now half done)",
      failure->where,
      "the weights are of no use any more: go on from the last checkpoint (--resume) with more memory "
      "(memory.budget), or train with an optimizer that keeps less (sgd) and without an average");
}

}  // namespace fornax
