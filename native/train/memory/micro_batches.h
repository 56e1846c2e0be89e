// Splits batches into micro-batches that fit into memory. A step whose forward or backward runs out of memory
// is put back to where it began, the micro-batch is halved, and the same batch is tried again, its gradients
// added up over the parts: the step that the optimizer sees stays that of the whole batch. The halved
// micro-batch is kept for the steps to come. Used on the session's thread only.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "device/out_of_memory.h"
#include "train/memory/forward_state.h"
#include "train/options.h"
#include "train/step.h"

namespace fornax {

// Part `index` of `count` nearly equal parts of a batch's rows. Beside `face_offsets` [rows + 1], fields
// whose names begin with `face_` are ragged and split by it. DataError where such offsets do not fit the
// rows.
Batch partOf(const Batch& batch, int64_t count, int64_t index);

// What a model gave for the parts of a batch of `rows` rows, as outputs for all of it. An output without a
// row for each image is that of the last part.
std::vector<at::Tensor> joined(const std::vector<std::vector<at::Tensor>>& parts, int64_t rows);

class MicroBatches {
 public:
  // `step` must outlive it.
  MicroBatches(TrainStep& step, const TrainOptions& options);

  // Rows of a micro-batch at most; 0: batches stay whole. Any thread.
  int64_t rows() const { return rows_; }
  void setRows(int64_t rows) { rows_ = rows; }
  // ArgumentError for numbers that setRows() must not be given.
  void checkRows(int64_t rows) const;
  // Whether a step that ran out of memory is tried again. Then its batches must be kept until it is done.
  bool retries() const { return retries_; }
  // Puts back what the forward of the last step changed beside gradients (ForwardState), if that was saved
  // before the step: all of it, only the buffers, or only these and where `flag` is not 0.
  void putBack() {
    if (saved_) state_->putBack();
  }
  void putBackBuffers() {
    if (saved_) state_->putBackBuffers();
  }
  void putBackBuffersWhere(const at::Tensor& flag) {
    if (saved_) state_->putBackBuffersWhere(flag);
  }

  // What accumulate() would prepare for these batches, one after another, part by part.
  std::vector<StepInputs> prepare(const std::vector<Batch>& batches);
  // As TrainStep::accumulate, part by part. Outputs are those of the whole batch, and left out unless asked
  // for.
  TrainStep::MicroResult accumulate(const Batch& batch, double weight, bool last, bool outputs = false);

  // Runs `attempt`, which computes the gradients of step `step` (0-based) anew, however often it is called,
  // from the same batches. After an attempt that ran out of memory `let_go` frees what the caller can do
  // without; if it returns true (something was freed), the micro-batch is tried once more before it is
  // halved. `on_halved` is told of each halving. OutOfMemoryError where there is nothing left to halve, or
  // halving was not wanted; then all is as before the step, but for the gradients, which are gone.
  void run(int64_t step, const std::function<void()>& attempt, const std::function<bool()>& let_go,
           const OnHalved& on_halved);

  // Runs the update of step `step` (0-based), which cannot be put back: where memory runs out in it, some
  // weights have it and others do not, and the error says so.
  static void inUpdate(int64_t step, const std::function<void()>& update);

 private:
  std::optional<AllocationFailure> tried(const std::function<void()>& attempt);
  void halve(int64_t step, const AllocationFailure& failure, const OnHalved& on_halved);
  int64_t partsOf(int64_t rows) const;
  // What is to be known of a batch before anything is computed of it.
  void meet(const Batch& batch);
  void prepareState();

  TrainStep& step_;
  const c10::Device device_;
  const bool retries_;
  const bool keeps_;  // the state before each step, also where nothing is tried again
  const bool alone_;  // one process
  const int64_t batches_per_step_;
  std::atomic<int64_t> rows_;
  int64_t largest_batch_ = 0;  // rows, of the attempt under way; 0: it has none yet
  bool begun_ = false;         // something of them was computed
  int64_t least_rows_ = 1;     // of a part: batch norm may need two (TrainStep::leastRows)
  bool saved_ = false;         // the state before the step that is under way
  std::unique_ptr<ForwardState> state_;
  std::shared_ptr<const Graph> state_of_;       // the graph that `state_` was made for
  std::shared_ptr<const Graph> least_rows_of_;  // the one that `least_rows_` belongs to
};

}  // namespace fornax
