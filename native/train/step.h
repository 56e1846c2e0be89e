// One optimizer step, in its parts: micro-batches go forward and backward and add up their gradients, then
// the update unscales, clips, steps and clears. Owns the session's view of the model on its device, the
// optimizer, the scaler and the generator. Everything here runs on the session's thread and never waits for
// the device.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "dist/gradient_reducer.h"
#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "train/batch/batch_upload.h"
#include "train/batch/device_batch.h"
#include "train/batch/teacher.h"
#include "train/nan/node_inspector.h"
#include "train/optim/optimizer.h"
#include "train/optim/scaler.h"
#include "train/options.h"
#include "train/trained_parameters.h"

namespace fornax {

// A micro-batch on the device, as the model and the loss read it.
struct StepInputs {
  std::vector<at::Tensor> model;  // in the order of the model's inputs
  Batch loss;                     // the fields that the loss reads, the teacher's outputs among them
  int64_t rows = 0;
  int64_t global_rows = 0;  // in all processes together
};

class TrainStep {
 public:
  // Moves the state to the device and into the memory format of the options, and marks what is trained.
  // `abort` stops a forward between two operators (AbortedError). Throws fornax::Error.
  TrainStep(std::shared_ptr<const Graph> graph, std::shared_ptr<State> state,
            std::shared_ptr<const Graph> loss, const TrainOptions& options, const std::atomic<bool>* abort);
  ~TrainStep();

  // Another trace of the same model (a retrace for other sizes). Whether it is another one.
  bool useGraph(std::shared_ptr<const Graph> graph);
  const Graph& graph() const { return *graph_; }
  const Graph& lossGraph() const { return *loss_; }
  const std::shared_ptr<const Graph>& sharedGraph() const { return graph_; }

  // Before the first batch of step `step` (0-based), and before an attempt to compute it anew.
  void beginStep(int64_t step) {
    if (mixing_) mixing_->beginStep(step);
  }
  // The next batch of the step, mixed with itself where the options say so: once, before it is split or
  // prepared.
  Batch mixed(const Batch& batch);

  // Shows every node of the next forwards and backwards to `inspector`; null: no longer.
  void inspect(NodeInspector* inspector) { inspector_ = inspector; }
  // Where `flag` (float32 scalar on the device; null: nowhere) is 1, an update changes nothing: neither
  // weights nor what the optimizer, the scaler and the averages keep.
  void guardUpdates(const at::Tensor* flag) { guard_ = flag; }

  // Brings a micro-batch into the form the step computes with: everything that differs from batch to batch in
  // how it gets to the device happens here, and nothing after it.
  StepInputs prepare(const Batch& batch);

  struct MicroResult {
    at::Tensor loss;                  // scalar on the device, detached
    std::vector<at::Tensor> outputs;  // of the model, detached
  };
  // Forward, loss and backward; `weight`·gradient is added to the gradients. `last` of the step: what several
  // processes have to exchange begins to travel meanwhile. There the loss is this process's share of the
  // whole batch's, as the gradients are.
  MicroResult accumulate(const StepInputs& inputs, double weight, bool last = false);
  // Called between forward and backward, for figures of memory. Null: no more.
  void afterForward(std::function<void()> observer) { after_forward_ = std::move(observer); }
  // With several processes: gradients, and the given loss, become those of the whole batch. Once per step,
  // before everything else.
  void reduce(const at::Tensor& loss);
  // The fewest rows that a forward takes: 2 where a batch norm in training sees a single value per row and
  // channel, else 1. Sizes and dtypes are those of `row`.
  int64_t leastRows(const Batch& row) const;
  // Rows of the batch in all processes together.
  int64_t globalRows(const Batch& batch) const;

  // Undoes the loss scale and notes whether a gradient is not finite. Once per step, before the others.
  void unscaleGradients();
  // Clips as the options say. Returns the norm before clipping, a scalar on the device, if clipping by norm
  // had to compute it; undefined otherwise.
  at::Tensor clipGradients();
  // Momentum, or the first beta, of the next updates. ArgumentError if the optimizer has none.
  void setMomentum(double momentum);
  // Optimizer, scaler and average: what the host has to say about it, then what the device does.
  void update(double lr) {
    beginUpdate(lr);
    applyUpdate();
  }
  void beginUpdate(double lr);
  // The reverse of beginUpdate(), where the update was not done.
  void takeBackUpdate() {
    if (ema_) ema_->takeBack(1);
  }
  void applyUpdate();
  // Frees the gradients, and forgets what of them travels between processes.
  void clearGradients();

  // Parameters and buffers, by name.
  NamedTensors stateTensors() const;
  // What is trained, and the gradients collected so far.
  TrainedParameters& trained() { return *trained_; }

  // Why steps cannot be recorded and repeated (step_capture.h); empty if they can.
  std::string recordingObstacle() const;
  // Before the first step that may be recorded: from then on the device has what the host changes from step
  // to step, `momentum` too if the schedule moves it.
  void keepNumbersOnDevice(bool momentum);
  // What the next calls of prepare() return, in their order, whatever they are given.
  void give(std::vector<StepInputs> prepared);
  // After update(): the mean of SWA, which takes the weights of some steps only.
  void average(int64_t steps_done) {
    if (swa_) swa_->update(steps_done, guard_);
  }
  // After steps `first` to `last` (from 1) whose updates guardUpdates() has made ineffective: the averages no
  // longer count them.
  void takeBack(int64_t first, int64_t last);
  // The averaged state by its names, the tensors themselves; empty without an average.
  NamedTensors averages();
  // Optimizer, scaler, average and generator; the tensors themselves.
  NamedTensors resumeState();
  at::Generator& generator() { return generator_; }
  // What a forward writes to beside its results, and how many batch norms normalise by the batch:
  // forward_state.h.
  std::vector<at::Tensor> writtenBuffers() const;
  int64_t trainingBatchNorms() const;
  const GradScaler* scaler() const { return scaler_ ? &*scaler_ : nullptr; }
  GradScaler* scaler() { return scaler_ ? &*scaler_ : nullptr; }

 private:
  void moveState();
  std::vector<at::Tensor> forward(const StepInputs& inputs);
  at::Tensor lossOf(const std::vector<at::Tensor>& outputs, const StepInputs& inputs);

  std::shared_ptr<const Graph> source_graph_;  // as it was given
  std::shared_ptr<const Graph> needed_graph_;  // with its precision, and without what the loss ignores
  std::shared_ptr<const Graph> graph_;  // as it is run: without auxiliary outputs that the loss ignores
  std::shared_ptr<State> state_;
  State::TrainingLease lease_;
  std::shared_ptr<const Graph> loss_;
  TrainOptions options_;
  const std::atomic<bool>* abort_;
  size_t loss_output_ = 0;
  ModeTable modes_, loss_modes_;
  std::vector<at::Tensor> parameters_;        // all of the state, in its order
  std::optional<TrainedParameters> trained_;  // set once the state is on the device
  BatchUpload upload_;
  DeviceBatch device_batch_;
  at::Generator generator_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<GradScaler> scaler_;
  std::optional<Ema> ema_;
  std::optional<WeightAverage> swa_;
  std::optional<Teacher> teacher_;
  std::optional<Mixing> mixing_;
  NodeInspector* inspector_ = nullptr;
  const at::Tensor* guard_ = nullptr;
  std::unique_ptr<GradientReducer> reducer_;  // null with one process
  std::function<void()> after_forward_;
  std::deque<StepInputs> given_;  // for prepare()
  double lr_ = 0;                 // of the update to come
};

}  // namespace fornax
