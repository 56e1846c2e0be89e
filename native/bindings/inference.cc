// The `InferenceSession` class of the contract.
#include <ATen/ATen.h>

#include <atomic>
#include <memory>
#include <utility>

#include "bindings/environment.h"
#include "bindings/graph_handle.h"
#include "bindings/loader_handle.h"
#include "bindings/metrics.h"
#include "bindings/normalize_option.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"
#include "core/worker_pool.h"
#include "data/memory_source.h"
#include "device/compute_thread.h"
#include "infer/batch_norm_recompute.h"
#include "infer/evaluator.h"
#include "infer/session.h"

namespace fornax::bindings {

namespace {

// What jobs on the session's threads share with the handle: it outlives the handle while a job runs.
class SessionCore : public Stoppable {
 public:
  SessionCore(std::shared_ptr<Model> model, InferenceOptions options)
      : model(std::move(model)),
        session(this->model->state, options),
        pool(static_cast<size_t>(options.workers),
             [threads = options.threads] { setUpComputeThread({threads, /*flush_denormal=*/false}); },
             {kIdleSeconds, endIdlePool}) {}

  void stopAndJoin() noexcept override {
    stopped = true;
    evaluation_stopped = true;
    pool.stop();
  }

  const std::shared_ptr<Model> model;
  InferenceSession session;
  std::atomic<bool> stopped{false};             // the session is going away
  std::atomic<bool> evaluating{false};          // one at a time
  std::atomic<bool> evaluation_stopped{false};  // stop() was called
  WorkerPool pool;                              // last: its threads use all of the above
};

class InferenceHandle : public Napi::ObjectWrap<InferenceHandle> {
 public:
  static void init(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor =
        DefineClass(env, "InferenceSession",
                    {
                        InstanceAccessor<&InferenceHandle::isDisposed>("disposed"),
                        InstanceMethod<&InferenceHandle::dispose>("dispose"),
                        InstanceMethod<&InferenceHandle::forward>("forward"),
                        InstanceMethod<&InferenceHandle::evaluate>("evaluate"),
                        InstanceMethod<&InferenceHandle::recompute>("recomputeBatchNorm"),
                        InstanceMethod<&InferenceHandle::refresh>("refresh"),
                        InstanceMethod<&InferenceHandle::stop>("stop"),
                    });
    exports.Set("InferenceSession", constructor);
    Environment::of(env).constructors["InferenceSession"] = Napi::Persistent(constructor);
  }

  explicit InferenceHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<InferenceHandle>(info) {
    guarded(info.Env(), [&] {
      core_ = std::make_shared<SessionCore>(unwrapGraph(info[0], "graph"), readOptions(info[1]));
      Environment::of(info.Env()).addStoppable(core_);
    });
  }

  void Finalize(Napi::Env) override { release(); }

 private:
  static InferenceOptions readOptions(Napi::Value value) {
    Options source(value, "options");
    InferenceOptions options;
    options.device = parseComputeDevice(source.string("device", "cpu"));
    options.threads = source.integer("threads", 0, 0, 1024);
    options.workers = source.integer("workers", 1, 1, 256);
    options.channels_last = source.boolean("channels_last", false);
    options.precision = static_cast<Precision>(source.choice("amp", {"off", "bf16", "fp16"}, "off"));
    options.normalize = readNormalize(source.get("normalize"), source.name("normalize"));
    return options;
  }

  const std::shared_ptr<SessionCore>& core() const {
    if (!core_) throw Error(ErrorKind::Disposed, "the inference session was disposed");
    return core_;
  }

  // Jobs that wait are dropped, those that run end at the next node; whoever awaits them gets AbortedError.
  void release() {
    if (!core_) return;
    core_->stopAndJoin();
    core_.reset();
  }

  void dispose(const Napi::CallbackInfo&) { release(); }
  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !core_); }
  void refresh(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { core()->session.refresh(); });
  }
  void stop(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { core()->evaluation_stopped = true; });
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      Napi::Object given = readObject(info[0], "inputs");
      auto inputs = std::make_shared<Batch>();
      Napi::Array names = given.GetPropertyNames();
      for (uint32_t i = 0; i < names.Length(); ++i) {
        std::string name = names.Get(i).As<Napi::String>();
        inputs->fields.emplace_back(name, unwrapTensor(given.Get(name), "inputs." + name));
      }
      Options source(info.Length() > 1 ? info[1] : env.Undefined(), "options");
      ForwardOptions options;
      options.modes = readModes(source.get("modes"), source.name("modes"));
      options.taps = source.strings("taps");
      if (source.has("outputs")) options.outputs = source.strings("outputs");
      int64_t seed = source.integer("seed", 0);
      if (seed < 0) throw Error(ErrorKind::Argument, source.name("seed") + " must not be negative");
      options.seed = static_cast<uint64_t>(seed);

      std::shared_ptr<const Graph> graph = core()->model->graph;
      return run(
          [graph, inputs, options](SessionCore& core) -> Result {
            auto outputs =
                std::make_shared<NamedTensors>(core.session.forward(graph, *inputs, options, core.stopped));
            return [outputs](Napi::Env env) -> Napi::Value {
              Napi::Object result = Napi::Object::New(env);
              for (const auto& [name, tensor] : *outputs) result.Set(name, wrapTensor(env, tensor));
              return result;
            };
          },
          env);
    });
  }

  Napi::Value evaluate(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      // Taken out by the job, so that the loader is free again before the promise settles.
      auto loader = std::make_shared<std::shared_ptr<BatchSource>>(unwrapLoader(info[0], "loader"));
      Options source(info[1], "options");
      EvaluationOptions options;
      options.classes = source.integer("classes", 0);
      if (source.has("classes") && options.classes < 1)
        throw Error(ErrorKind::Argument, "classes must be at least 1", "evaluate.classes");
      options.auroc = source.boolean("auroc", false);
      options.metrics = readMetrics(source);
      std::shared_ptr<const Graph> loss;
      if (source.has("loss"))
        loss = std::make_shared<const Graph>(readGraphSpec(source.get("loss")), /*trusted=*/true);
      std::shared_ptr<Napi::FunctionReference> callback = readProgress(source);
      if (core()->evaluating.exchange(true)) {
        throw Error(ErrorKind::Argument, "an evaluation is running in this session", "",
                    "await its promise first");
      }
      core()->evaluation_stopped = false;
      std::shared_ptr<const Graph> graph = core()->model->graph;
      const auto progress = progressPoster(env, callback);
      const auto queue = Environment::of(env).queue();
      const void* callback_key = callback.get();
      return run(
          [=](SessionCore& core) -> Result {
            const EvaluationEnd end{core.evaluating, queue, this, callback_key};
            std::shared_ptr<BatchSource> source = std::move(*loader);
            EvaluationResult result = fornax::evaluate(core.session, graph, loss.get(), *source, options,
                                                       core.evaluation_stopped, progress);
            return [result](Napi::Env env) -> Napi::Value { return toObject(env, result); };
          },
          env, {info[0].As<Napi::Object>()});
    });
  }

  static std::vector<MetricGraph> readMetrics(const Options& source) {
    std::vector<MetricGraph> metrics;
    if (!source.has("metrics")) return metrics;
    const Napi::Object graphs = readObject(source.get("metrics"), source.name("metrics"));
    const Napi::Array names = graphs.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); ++i) {
      std::string name = names.Get(i).As<Napi::String>();
      metrics.push_back(
          {name, std::make_shared<const Graph>(readGraphSpec(graphs.Get(name)), /*trusted=*/true)});
    }
    return metrics;
  }

  static std::shared_ptr<Napi::FunctionReference> readProgress(const Options& source) {
    if (!source.has("onProgress")) return nullptr;
    Napi::Value function = source.get("onProgress");
    if (!function.IsFunction())
      throw Error(ErrorKind::Argument, source.name("onProgress") + " must be a function");
    return std::make_shared<Napi::FunctionReference>(Napi::Persistent(function.As<Napi::Function>()));
  }

  // An evaluation has ended: another may begin, and the function that was told of its progress is let go, on
  // its own thread. It commonly refers to this object, and would keep it from being collected. The promise of
  // the evaluation, which is settled afterwards, keeps the handle until then.
  struct EvaluationEnd {
    std::atomic<bool>& evaluating;
    std::shared_ptr<JsQueue> queue;
    InferenceHandle* handle;
    const void* function;
    ~EvaluationEnd() {
      evaluating = false;
      queue->post([handle = handle, function = function](Napi::Env) {
        if (handle->progress_.get() == function) handle->progress_.reset();
      });
    }
  };

  // The function lives on the JavaScript thread; native code knows it only by a weak key.
  ProgressFn progressPoster(Napi::Env env, const std::shared_ptr<Napi::FunctionReference>& callback) {
    if (callback) progress_ = callback;
    std::weak_ptr<Napi::FunctionReference> weak = callback;
    return [queue = Environment::of(env).queue(), weak](int64_t done, int64_t total) {
      queue->post([weak, done, total](Napi::Env env) {
        if (auto function = weak.lock()) {
          function->Call({Napi::Number::New(env, static_cast<double>(done)),
                          Napi::Number::New(env, static_cast<double>(total))});
        }
      });
    };
  }

  // A Loader, or an array of batches in memory.
  static std::shared_ptr<BatchSource> readSource(Napi::Value value) {
    if (!value.IsArray()) return unwrapLoader(value, "source");
    Napi::Array array = value.As<Napi::Array>();
    std::vector<Batch> batches;
    for (uint32_t i = 0; i < array.Length(); ++i) {
      const std::string what = "source[" + std::to_string(i) + "]";
      Napi::Object object = readObject(array.Get(i), what);
      Napi::Array names = object.GetPropertyNames();
      Batch batch;
      for (uint32_t k = 0; k < names.Length(); ++k) {
        std::string name = names.Get(k).As<Napi::String>();
        batch.fields.emplace_back(name, unwrapTensor(object.Get(name), what + "." + name));
      }
      batches.push_back(std::move(batch));
    }
    return std::make_shared<MemorySource>(std::move(batches));
  }

  Napi::Value recompute(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      Options source(info.Length() > 1 ? info[1] : env.Undefined(), "options");
      RecomputeOptions options;
      options.batches = source.integer("batches", options.batches);
      options.frozen = source.strings("frozen");
      const std::shared_ptr<Napi::FunctionReference> callback = readProgress(source);
      std::shared_ptr<const Graph> graph = core()->model->graph;
      if (core()->evaluating.exchange(true)) {
        throw Error(ErrorKind::Argument, "an evaluation is running in this session", "",
                    "await its promise first");
      }
      auto batches = std::make_shared<std::shared_ptr<BatchSource>>();
      try {
        // Taken out by the job, so that a loader is free again before the promise settles.
        *batches = readSource(info[0]);
      } catch (...) {
        core()->evaluating = false;
        throw;
      }
      core()->evaluation_stopped = false;
      const auto progress = progressPoster(env, callback);
      const auto queue = Environment::of(env).queue();
      const void* callback_key = callback.get();
      return run(
          [=](SessionCore& core) -> Result {
            const EvaluationEnd end{core.evaluating, queue, this, callback_key};
            std::shared_ptr<BatchSource> source = std::move(*batches);
            const RecomputeResult result =
                recomputeBatchNorm(core.session, *graph, *source, options, core.evaluation_stopped, progress);
            return [result](Napi::Env env) -> Napi::Value { return toObject(env, result); };
          },
          env, {info[0].As<Napi::Object>()});
    });
  }

  static Napi::Value toObject(Napi::Env env, const RecomputeResult& result) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("layers", static_cast<double>(result.layers));
    object.Set("inactive", static_cast<double>(result.inactive));
    object.Set("batches", static_cast<double>(result.batches));
    object.Set("samples", static_cast<double>(result.samples));
    object.Set("seconds", result.seconds);
    return object;
  }

  static Napi::Value toObject(Napi::Env env, const EvaluationResult& result) {
    Napi::Object object =
        result.classification ? metricsObject(env, *result.classification) : Napi::Object::New(env);
    Napi::Object metrics = Napi::Object::New(env);
    for (const auto& [name, value] : result.metrics) metrics.Set(name, value);
    object.Set("samples", static_cast<double>(result.samples));
    object.Set("loss", optionalNumber(env, result.loss));
    object.Set("metrics", metrics);
    object.Set("seconds", result.seconds);
    return object;
  }

  using Result = std::function<Napi::Value(Napi::Env)>;

  // Runs `job` on one of the session's threads; the promise settles with what it returns. A job that is
  // dropped because the session went away rejects as well, so that nobody waits forever. `used` (the session
  // itself is added) is kept from garbage collection meanwhile.
  Napi::Value run(std::function<Result(SessionCore&)> job, Napi::Env env,
                  const std::vector<Napi::Object>& used = {}) {
    struct Settle {
      std::shared_ptr<Promise> promise;
      bool settled = false;
      ~Settle() {
        if (settled) return;
        promise->reject(
            std::make_exception_ptr(Error(ErrorKind::Aborted, "the session was disposed before this ran")));
      }
    };
    auto settle = std::make_shared<Settle>();
    settle->promise = Promise::create(env);
    settle->promise->keepAlive(Value());
    for (const Napi::Object& object : used) settle->promise->keepAlive(object);
    Napi::Value value = settle->promise->value();
    // A raw pointer: the pool belongs to the core and is joined before the core goes.
    core()->pool.post([settle, job = std::move(job), core = core_.get()] {
      settle->settled = true;
      try {
        settle->promise->resolve(job(*core));
      } catch (...) {
        settle->promise->reject(std::current_exception());
      }
    });
    return value;
  }

  std::shared_ptr<SessionCore> core_;
  std::shared_ptr<Napi::FunctionReference> progress_;
};

void init(Napi::Env env, Napi::Object exports) {
  InferenceHandle::init(env, exports);
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
