// Measuring the precision of a training's nodes, on a thread per environment that does nothing else.
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/environment.h"
#include "bindings/graph_handle.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "bindings/train_options.h"
#include "core/error.h"
#include "core/worker_pool.h"
#include "train/passes/precision.h"
#include "train/precision/measure_precision.h"

namespace fornax::bindings {

namespace {

using StopFlag = std::shared_ptr<std::atomic<bool>>;

// Everything but the jobs is done by JavaScript's thread.
class MeasurePool : public Stoppable {
 public:
  MeasurePool() : pool_(1, [] {}) {}

  // False: the environment is ending. What has the flag ends when that does.
  bool post(const StopFlag& stop, std::function<void()> job) {
    stops_.erase(
        std::remove_if(stops_.begin(), stops_.end(), [](const auto& known) { return known.expired(); }),
        stops_.end());
    stops_.push_back(stop);
    return pool_.post(std::move(job));
  }

  void stopAndJoin() noexcept override {
    for (const auto& known : stops_) {
      if (const StopFlag stop = known.lock()) *stop = true;
    }
    pool_.stop();
  }

 private:
  WorkerPool pool_;
  std::vector<std::weak_ptr<std::atomic<bool>>> stops_;
};

MeasurePool& poolOf(Napi::Env env) {
  Environment& environment = Environment::of(env);
  if (!environment.measure) {
    auto pool = std::make_shared<MeasurePool>();
    environment.measure = pool;
    environment.addStoppable(pool);
  }
  return static_cast<MeasurePool&>(*environment.measure);
}

const char* reasonName(PrecisionVerdict::Reason reason) {
  switch (reason) {
    case PrecisionVerdict::Reason::Measured:
      return "measured";
    case PrecisionVerdict::Reason::NoGain:
      return "no_gain";
    case PrecisionVerdict::Reason::TooSmall:
      return "too_small";
    case PrecisionVerdict::Reason::Unsupported:
      break;
  }
  return "unsupported";
}

Napi::Object toObject(Napi::Env env, const PrecisionVerdict& verdict) {
  Napi::Array names = Napi::Array::New(env, verdict.bf16.size());
  for (size_t i = 0; i < verdict.bf16.size(); ++i) names.Set(static_cast<uint32_t>(i), verdict.bf16[i]);
  Napi::Object object = Napi::Object::New(env);
  object.Set("bf16", names);
  object.Set("nodes", static_cast<double>(verdict.nodes));
  object.Set("reason", reasonName(verdict.reason));
  object.Set("batch", static_cast<double>(verdict.batch));
  object.Set("nodes_fp32_ms", verdict.nodes_float32 * 1000);
  object.Set("nodes_plan_ms", verdict.nodes_plan * 1000);
  object.Set("step_fp32_ms", verdict.step_float32 * 1000);
  object.Set("step_plan_ms", verdict.step_plan * 1000);
  object.Set("seconds", verdict.seconds);
  object.Set("processor_share", verdict.processor_share);
  return object;
}

MeasureRequest readRequest(Napi::Value value) {
  const Options source(value, "request");
  MeasureRequest request;
  const Napi::Array inputs = readArray(source.require("inputs"), source.name("inputs"));
  for (uint32_t i = 0; i < inputs.Length(); ++i) {
    const std::string what = source.name("inputs") + "[" + std::to_string(i) + "]";
    const Options input(inputs.Get(i), what);
    InputShape shape{readIntegers(input.require("shape"), what + ".shape"),
                     parseDtype(input.string("dtype"), what + ".dtype")};
    for (int64_t size : shape.shape) {
      if (size < 1) throw Error(ErrorKind::Argument, what + ".shape must hold positive integers");
    }
    request.inputs.push_back(std::move(shape));
  }
  if (source.has("steps")) request.steps = source.integer("steps");
  return request;
}

Napi::Value measure(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Model> model = unwrapGraph(info[0], "graph");
    const Options source(info[1], "options");
    const auto loss = std::make_shared<const Graph>(readGraphSpec(source.require("loss")), /*trusted=*/true);
    TrainOptions options = readTrainOptions(info[1]);
    options.group.reset();
    options.teacher.reset();
    const MeasureRequest request = readRequest(info[2]);
    MeasurePool& pool = poolOf(info.Env());
    auto promise = Promise::create(info.Env());
    const auto stop = std::make_shared<std::atomic<bool>>(false);
    const bool posted =
        pool.post(stop, [promise, graph = model->graph, state = model->state, loss, options, request, stop] {
          try {
            const PrecisionVerdict verdict = measurePrecision(graph, *state, *loss, options, request, *stop);
            promise->resolve([verdict](Napi::Env env) -> Napi::Value { return toObject(env, verdict); });
          } catch (...) {
            promise->reject(std::current_exception());
          }
        });
    if (!posted) {
      promise->reject(std::make_exception_ptr(Error(ErrorKind::Aborted, "nothing is measured any more", "",
                                                    "the process or the worker is ending")));
    }
    Napi::Object measurement = Napi::Object::New(info.Env());
    measurement.Set("verdict", promise->value());
    const auto end = [stop](const Napi::CallbackInfo&) { *stop = true; };
    measurement.Set("stop", Napi::Function::New(info.Env(), end, "stop"));
    return measurement;
  });
}

Napi::Value listNodes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<const Graph> graph = unwrapGraph(info[0], "graph")->graph;
    Napi::Array array = Napi::Array::New(info.Env());
    uint32_t i = 0;
    for (const PrecisionNode& node : precisionNodes(*graph)) {
      Napi::Object object = Napi::Object::New(info.Env());
      object.Set("name", node.name);
      object.Set("path", graph->nodes()[node.index].path);
      object.Set("op", graph->nodes()[node.index].name);
      array.Set(i++, object);
    }
    return array;
  });
}

// For tests and tools: the graph that a session would train, as plain lines.
Napi::Value describePlan(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<const Graph> graph = unwrapGraph(info[0], "graph")->graph;
    std::vector<std::string> names;
    const Napi::Array given = readArray(info[1], "names");
    for (uint32_t i = 0; i < given.Length(); ++i) {
      names.push_back(readString(given.Get(i), "names[" + std::to_string(i) + "]"));
    }
    const auto planned = applyPrecision(graph, names);
    Napi::Array lines = Napi::Array::New(info.Env());
    uint32_t i = 0;
    for (const NodeSpec& node : planned->spec().nodes) {
      std::string line = node.op;
      if (node.op == "aten::to.dtype" && node.args.size() > 1) {
        line = std::string("cast ") + c10::toString(node.args[1].dtype);
      }
      if (!node.path.empty()) line += " " + node.path;
      lines.Set(i++, line);
    }
    return lines;
  });
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("measurePrecision", Napi::Function::New(env, measure, "measurePrecision"));
  exports.Set("precisionNodes", Napi::Function::New(env, listNodes, "precisionNodes"));
  exports.Set("precisionPlan", Napi::Function::New(env, describePlan, "precisionPlan"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
