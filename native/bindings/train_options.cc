#include "bindings/train_options.h"

#include <cmath>
#include <memory>
#include <string>

#include "bindings/dist.h"
#include "bindings/graph_handle.h"
#include "bindings/normalize_option.h"
#include "bindings/optimizer_options.h"
#include "bindings/options.h"
#include "bindings/schedule_options.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"

namespace fornax::bindings {

namespace {

std::vector<GroupOptions> readGroups(const Options& source) {
  std::vector<GroupOptions> groups;
  const Napi::Array array = readArray(source.require("groups"), source.name("groups"));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Options group(array.Get(i), source.name("groups") + "[" + std::to_string(i) + "]");
    groups.push_back(
        {group.strings("parameters"), group.number("weight_decay", 0), group.number("lr_scale", 1)});
  }
  return groups;
}

ScalerOptions readScaler(const Options& source) {
  ScalerOptions scaler;
  scaler.init_scale = source.number("init_scale", scaler.init_scale);
  scaler.growth_factor = source.number("growth_factor", scaler.growth_factor);
  scaler.backoff_factor = source.number("backoff_factor", scaler.backoff_factor);
  scaler.growth_interval = source.integer("growth_interval", scaler.growth_interval);
  return scaler;
}

// What is not said is trained with: unlike inference, whose default is eval.
Modes readTrainModes(const Options& options) {
  Modes modes = readModes(options.get("modes"), options.name("modes"));
  const Options source = options.object("modes");
  if (!source.has("dropout")) modes.dropout = Mode::Train;
  if (!source.has("batch_norm")) modes.batch_norm = Mode::Train;
  if (!source.has("stochastic_depth")) modes.stochastic_depth = Mode::Train;
  return modes;
}

std::optional<double> optionalNumber(const Options& source, const char* key) {
  return source.has(key) ? std::optional(source.number(key)) : std::nullopt;
}

std::optional<bool> optionalBoolean(const Options& source, const char* key) {
  return source.has(key) ? std::optional(source.boolean(key, false)) : std::nullopt;
}

std::optional<TeacherOptions> readTeacher(const Options& source) {
  if (!source.has("teacher")) return std::nullopt;
  const Options teacher = source.object("teacher");
  const std::shared_ptr<Model> model = unwrapGraph(teacher.require("graph"), teacher.name("graph"));
  return TeacherOptions{model->graph, model->state,
                        readNormalize(teacher.get("normalize"), teacher.name("normalize"))};
}

std::optional<MixingOptions> readMixing(const Options& source) {
  if (!source.has("mix")) return std::nullopt;
  const Options given = source.object("mix");
  MixingOptions mix;
  mix.classes = given.integer("classes");
  mix.label = given.string("label", mix.label);
  mix.mixup = given.number("mixup", mix.mixup);
  mix.cutmix = given.number("cutmix", mix.cutmix);
  mix.prob = given.number("prob", mix.prob);
  mix.switch_prob = given.number("switch_prob", mix.switch_prob);
  mix.steps = given.integer("steps", mix.steps);
  return mix;
}

}  // namespace

TrainOptions readTrainOptions(Napi::Value value) {
  const Options source(value, "options");
  source.require("optimizer");
  source.require("schedule");
  TrainOptions options;
  options.device = parseComputeDevice(source.string("device"));
  options.optimizer = readOptimizer(source.object("optimizer"));
  options.groups = readGroups(source);
  options.schedule = readSchedule(source.object("schedule"));
  options.precision = static_cast<Precision>(source.choice("amp", {"off", "bf16", "fp16"}, "off"));
  options.bf16_nodes = source.object("precision").strings("bf16");
  if (!options.bf16_nodes.empty() && options.precision != Precision::Float32) {
    throw Error(ErrorKind::Argument, source.name("precision") + " needs amp `off`", "",
                "amp decides by operator, precision by node: use one of them");
  }
  options.scaler = readScaler(source.object("scaler"));
  options.channels_last = source.boolean("channels_last", false);
  options.fuse = source.boolean("fuse", true);
  options.cuda_graphs = static_cast<CudaGraphs>(source.choice("cuda_graphs", {"auto", "on", "off"}, "auto"));
  options.tape = source.boolean("tape", false);
  options.count_syncs = source.boolean("count_syncs", false);
  options.cudnn_benchmark = optionalBoolean(source, "cudnn_benchmark");
  options.tf32 = optionalBoolean(source, "tf32");
  options.deterministic = optionalBoolean(source, "deterministic");
  options.flush_denormal = source.boolean("flush_denormal", true);
  options.threads = source.integer("threads", 0, 0, 1024);
  const int64_t seed = source.integer("seed", 0);
  if (seed < 0) throw Error(ErrorKind::Argument, source.name("seed") + " must not be negative");
  options.seed = static_cast<uint64_t>(seed);
  options.modes = readTrainModes(source);
  options.normalize = readNormalize(source.get("normalize"), source.name("normalize"));
  options.grad_accum = source.integer("grad_accum", 1);
  options.clip_norm = optionalNumber(source, "clip_norm");
  options.clip_value = optionalNumber(source, "clip_value");
  if (source.has("ema")) {
    const Options ema = source.object("ema");
    options.ema = EmaOptions{ema.number("decay", 0.9999), ema.boolean("warmup", false)};
  }
  options.mix = readMixing(source);
  if (source.has("nan_watch")) {
    const Options watch = source.object("nan_watch");
    options.nan_watch = NanWatchOptions{watch.integer("gradients_every", 1), watch.boolean("anomaly", false)};
  }
  if (source.has("swa")) {
    const Options swa = source.object("swa");
    options.swa = SwaOptions{swa.integer("start"), swa.integer("interval", 1)};
  }
  options.teacher = readTeacher(source);
  if (source.has("process_group")) {
    options.group = unwrapProcessGroup(source.get("process_group"), source.name("process_group"));
  }
  options.sync_batch_norm = source.boolean("sync_batch_norm", true);
  options.on_oom = static_cast<OnOutOfMemory>(source.choice("on_oom", {"halve", "stop"}, "halve"));
  options.micro_batch = source.integer("micro_batch", 0);
  return options;
}

}  // namespace fornax::bindings
