// What a training session is told (`TrainOptions` in src/native/contract.ts), as plain data.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "train/batch/mixing.h"
#include "train/nan/nan_watch_options.h"
#include "train/optim/ema.h"
#include "train/optim/optimizer.h"
#include "train/optim/scaler.h"
#include "train/optim/schedule.h"
#include "train/optim/weight_average.h"

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

// Whether whole steps are recorded and repeated (step_capture.h). Auto: on CUDA, where they can be.
enum class CudaGraphs : uint8_t { Auto, On, Off };

// What becomes of a step that runs out of memory.
enum class OnOutOfMemory : uint8_t { Halve, Stop };

// A micro-batch was halved because memory ran out (micro_batches.h).
struct Halving {
  int64_t step;         // 0-based
  std::string what;     // the allocator's words
  std::string where;    // a node, or a phase such as `backward`
  std::string module;   // path of the module that was running, or empty
  int64_t from, to;     // rows of a micro-batch
  int64_t parts;        // micro-batches of a step from now on
  int64_t batch_norms;  // layers whose statistics are those of smaller batches from now on
};
using OnHalved = std::function<void(const Halving&)>;

struct TrainOptions {
  c10::Device device = c10::kCPU;
  OptimizerOptions optimizer;
  std::vector<GroupOptions> groups;  // parameters in no group are frozen
  ScheduleOptions schedule;
  Precision precision = Precision::Float32;
  // With Float32: nodes computed in bfloat16, by their names (passes/precision.h).
  std::vector<std::string> bf16_nodes;
  ScalerOptions scaler;  // used with Float16
  bool channels_last = false;
  bool fuse = true;                           // exchange and fuse operators for speed (prepare_graph.h)
  std::optional<bool> cudnn_benchmark, tf32;  // process-wide; unset: as they are
  std::optional<bool> deterministic;          // process-wide, too
  bool flush_denormal = true;
  int threads = 0;  // 0: libtorch's default
  uint64_t seed = 0;
  Modes modes = Modes::all(Mode::Train);
  std::optional<Normalize> normalize;
  int64_t grad_accum = 1;
  std::optional<double> clip_norm, clip_value;
  std::optional<EmaOptions> ema;
  std::optional<SwaOptions> swa;  // not with ema
  std::optional<TeacherOptions> teacher;
  std::optional<MixingOptions> mix;
  std::optional<NanWatchOptions> nan_watch;
  std::shared_ptr<ProcessGroup> group;  // null: this process trains alone
  bool sync_batch_norm = true;          // over the batches of all processes
  OnOutOfMemory on_oom = OnOutOfMemory::Halve;
  int64_t micro_batch = 0;  // rows at most; 0: whole batches
  CudaGraphs cuda_graphs = CudaGraphs::Auto;
  bool tape = false;         // in place of CUDA graphs, on the CPU: for tests
  bool count_syncs = false;  // on CUDA: for tests
};

// Of numbers that belong to no part of a session that would check them itself. ArgumentError.
void checkTrainOptions(const TrainOptions& options);

}  // namespace fornax
