#include "train/memory/micro_batches.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/error.h"
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

// The offsets of a ragged field, or null: `face_offsets` [rows + 1] says where in `face_boxes` and whatever
// else begins with `face_` the values of each row begin.
const at::Tensor* offsetsOf(const Batch& batch, const std::string& name) {
  const size_t end = name.find('_');
  return end == std::string::npos ? nullptr : batch.find(name.substr(0, end) + "_offsets");
}

Batch partOf(const Batch& batch, int64_t count, int64_t index) {
  if (count == 1) return batch;
  const int64_t rows = batchSize(batch);
  const int64_t begin = rows * index / count;
  const int64_t end = rows * (index + 1) / count;
  Batch piece;
  for (const auto& [name, field] : batch.fields) {
    const at::Tensor* offsets = offsetsOf(batch, name);
    if (!offsets) {
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
    piece.fields.emplace_back(
        name, is_offsets ? range - bounds[0] : field.slice(0, bounds[0], bounds[end - begin]));
  }
  return piece;
}

MicroBatches::MicroBatches(TrainStep& step, const TrainOptions& options)
    : step_(step),
      device_(options.device),
      retries_(options.on_oom == OnOutOfMemory::Halve && !options.group),
      keeps_(options.nan_watch.has_value()),
      alone_(!options.group),
      batches_per_step_(options.grad_accum),
      rows_(options.micro_batch) {
  if (rows_ < 0) throw Error(ErrorKind::Argument, "micro_batch must be at least 1", "options.micro_batch");
  if (rows_ > 0 && !alone_) {
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
  if (rows < 2 || least_rows_of_ == step_.sharedGraph()) return;
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
  for (size_t k = 0; outputs && k < pieces.front().size(); ++k) {
    std::vector<at::Tensor> column;
    for (auto& piece : pieces) column.push_back(std::move(piece[k]));
    whole.outputs.push_back(at::cat(column));
  }
  return whole;
}

// A retrace has other nodes, and another model's worth of buffers.
void MicroBatches::prepareState() {
  if (state_of_ == step_.sharedGraph()) return;
  state_ = std::make_unique<ForwardState>(step_.writtenBuffers(), step_.generator());
  state_of_ = step_.sharedGraph();
}

// What failed, if memory ran out; other errors pass. The exception is gone on return, and with it all that
// the attempt held.
std::optional<MicroBatches::Failure> MicroBatches::tried(const std::function<void()>& attempt) {
  try {
    if ((retries_ || keeps_) && !saved_) {
      prepareState();
      state_->save();
      saved_ = true;
    }
    attempt();
    return std::nullopt;
  } catch (const OutOfMemoryError& error) {
    return Failure{error.what(), error.where, error.module};
  } catch (const c10::Error& error) {
    if (!isOutOfMemory(error)) throw;
    return Failure{std::string("out of memory: ") + error.what_without_backtrace(), "the training step", ""};
  } catch (const std::bad_alloc&) {
    return Failure{"out of memory", "the training step", ""};
  }
}

void MicroBatches::run(int64_t step, const std::function<void()>& attempt,
                       const std::function<void()>& let_go, const OnHalved& on_halved) {
  saved_ = false;
  bool released = false;
  for (;;) {
    largest_batch_ = 0;
    begun_ = false;
    step_.beginStep(step);
    step_.give({});  // what an attempt that failed has left
    const std::optional<Failure> failure = tried(attempt);
    if (!failure) return;
    step_.give({});
    step_.clearGradients();
    if (saved_) state_->putBack();
    if (let_go) let_go();
    releaseCachedMemory(device_);
    // Before anything of the batch was computed there is nothing to halve: what was let go of may be enough.
    if (retries_ && !begun_ && !std::exchange(released, true)) continue;
    halve(step, *failure, on_halved);
  }
}

void MicroBatches::halve(int64_t step, const Failure& failure, const OnHalved& on_halved) {
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
  try {
    update();
  } catch (const OutOfMemoryError& error) {
    throw OutOfMemoryError(
        withoutPrefix(error.what()) + " (in the update of step " + std::to_string(step + 1) +
            ", which is now half done)",
        error.where,
        "the weights are of no use any more: go on from the last checkpoint (--resume) with more memory "
        "(memory.budget), or train with an optimizer that keeps less (sgd) and without an average");
  }
}

}  // namespace fornax
