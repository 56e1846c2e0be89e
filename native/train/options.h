// What a training session is told (`TrainOptions` in src/native/contract.ts), as plain data.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "train/scaler.h"
#include "train/schedule.h"

namespace fornax {

class ProcessGroup;

enum class Precision : uint8_t { Float32, BFloat16, Float16 };

// (x / 255 − mean) / std, per channel, in the order of the model's channels. `reverse`: that order is not
// RGB, as pixels come, but BGR.
struct Normalize {
  std::vector<double> mean, std;
  bool reverse = false;
};

struct GroupOptions {
  std::vector<std::string> parameters;
  double weight_decay = 0;
  double lr_scale = 1;
};

// A model whose outputs the loss compares with (teacher.h).
struct TeacherOptions {
  std::shared_ptr<const Graph> graph;
  std::shared_ptr<const State> state;
  std::optional<Normalize> normalize;
};

struct TrainOptions {
  c10::Device device = c10::kCPU;
  OptimizerOptions optimizer;
  std::vector<GroupOptions> groups;  // parameters in no group are frozen
  ScheduleOptions schedule;
  Precision precision = Precision::Float32;
  ScalerOptions scaler;  // used with Float16
  bool channels_last = false;
  bool fuse = true;  // exchange and fuse operators for speed (prepare_graph.h)
  std::optional<bool> cudnn_benchmark, tf32;  // process-wide; unset: as they are
  bool flush_denormal = true;
  int threads = 0;  // 0: libtorch's default
  uint64_t seed = 0;
  Modes modes = Modes::all(Mode::Train);
  std::optional<Normalize> normalize;
  int64_t grad_accum = 1;
  std::optional<double> clip_norm, clip_value;
  std::optional<EmaOptions> ema;
  std::optional<TeacherOptions> teacher;
  std::shared_ptr<ProcessGroup> group;  // null: this process trains alone
  bool sync_batch_norm = true;          // over the batches of all processes
};

}  // namespace fornax
