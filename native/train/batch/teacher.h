// A second model that a training session only asks: for every batch it computes, in eval mode and without
// gradients, what the loss compares with (distillation). Its tensors are copied to the session's device where
// they are not there yet. Lives on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "train/batch/device_batch.h"
#include "train/options.h"

namespace fornax {

class Teacher {
 public:
  // Computes those outputs that `loss` reads: as `teacher` the first that is not auxiliary, as `teacher.NAME`
  // the one of that name. Throws fornax::Error (Argument) if the loss reads none or one that there is not.
  Teacher(const TeacherOptions& teacher, const Graph& loss, const TrainOptions& options);

  // The batch with these outputs as further fields. It sees the field kTeacherImage (mixing.h), if there is
  // one.
  Batch withOutputs(const Batch& batch, const std::atomic<bool>* abort) const;

  const Graph& graph() const { return *graph_; }
  const DeviceBatch& deviceBatch() const { return device_batch_; }

 private:
  std::shared_ptr<const Graph> graph_;
  std::vector<std::vector<std::string>> fields_;  // names of each output of graph_
  std::vector<at::Tensor> parameters_;
  DeviceBatch device_batch_;
};

}  // namespace fornax
