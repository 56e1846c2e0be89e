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
#include "device/compute_thread.h"
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
             [threads = options.threads] { setUpComputeThread({threads, /*flush_denormal=*/false}); }) {}

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
    Napi::Function constructor = DefineClass(env, "InferenceSession",
                                             {
                                                 InstanceAccessor<&InferenceHandle::isDisposed>("disposed"),
                                                 InstanceMethod<&InferenceHandle::dispose>("dispose"),
                                                 InstanceMethod<&InferenceHandle::forward>("forward"),
                                                 InstanceMethod<&InferenceHandle::evaluate>("evaluate"),
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
    options.device = parseDevice(source.string("device", "cpu"));
    options.threads = static_cast<int>(source.integer("threads", 0));
    options.workers = static_cast<int>(source.integer("workers", 1));
    if (options.threads < 0)
      throw Error(ErrorKind::Argument, source.name("threads") + " must not be negative");
    if (options.workers < 1 || options.workers > 256) {
      throw Error(ErrorKind::Argument, source.name("workers") + " must be 1 to 256");
    }
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
      options.classes = source.integer("classes");
      options.auroc = source.boolean("auroc", false);
      std::shared_ptr<const Graph> loss;
      if (source.has("loss"))
        loss = std::make_shared<const Graph>(readGraphSpec(source.get("loss")), /*trusted=*/true);
      std::shared_ptr<Napi::FunctionReference> callback;
      if (source.has("onProgress")) {
        Napi::Value function = source.get("onProgress");
        if (!function.IsFunction())
          throw Error(ErrorKind::Argument, source.name("onProgress") + " must be a function");
        callback = std::make_shared<Napi::FunctionReference>(Napi::Persistent(function.As<Napi::Function>()));
      }
      if (core()->evaluating.exchange(true)) {
        throw Error(ErrorKind::Argument, "an evaluation is running in this session", "",
                    "await its promise first");
      }
      core()->evaluation_stopped = false;
      std::shared_ptr<const Graph> graph = core()->model->graph;
      // The progress function lives on the JavaScript thread; native code knows it only by this weak key.
      auto queue = Environment::of(env).queue();
      if (callback) progress_ = callback;
      std::weak_ptr<Napi::FunctionReference> weak = callback;
      return run(
          [=](SessionCore& core) -> Result {
            auto progress = [queue, weak](int64_t done, int64_t total) {
              queue->post([weak, done, total](Napi::Env env) {
                if (auto function = weak.lock()) {
                  function->Call({Napi::Number::New(env, static_cast<double>(done)),
                                  Napi::Number::New(env, static_cast<double>(total))});
                }
              });
            };
            struct Done {
              std::atomic<bool>& evaluating;
              ~Done() { evaluating = false; }
            } done{core.evaluating};
            std::shared_ptr<BatchSource> source = std::move(*loader);
            EvaluationResult result = fornax::evaluate(core.session, graph, loss.get(), *source, options,
                                                       core.evaluation_stopped, progress);
            return [result](Napi::Env env) -> Napi::Value { return toObject(env, result); };
          },
          env, {info[0].As<Napi::Object>()});
    });
  }

  static Napi::Value toObject(Napi::Env env, const EvaluationResult& result) {
    Napi::Object object = metricsObject(env, result.metrics);
    object.Set("loss", optionalNumber(env, result.loss));
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
