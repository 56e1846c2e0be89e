// The `TrainSession` class of the contract.
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bindings/environment.h"
#include "bindings/graph_handle.h"
#include "bindings/loader_handle.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "bindings/train_options.h"
#include "bindings/train_results.h"
#include "core/error.h"
#include "data/memory_source.h"
#include "device/cpu_allocator.h"
#include "train/session.h"

namespace fornax::bindings {

namespace {

NamedTensors readTensors(Napi::Value value, const std::string& what) {
  Napi::Object object = readObject(value, what);
  Napi::Array names = object.GetPropertyNames();
  NamedTensors tensors;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    std::string name = names.Get(i).As<Napi::String>();
    tensors.emplace_back(name, unwrapTensor(object.Get(name), what + "." + name));
  }
  return tensors;
}

// The session and what it needs alive; stopped and joined when the environment goes away.
class TrainCore : public Stoppable {
 public:
  TrainCore(std::shared_ptr<Model> taken, std::shared_ptr<const Graph> loss, const TrainOptions& options)
      : model(std::move(taken)), session(model->graph, model->state, std::move(loss), options) {}
  void stopAndJoin() noexcept override { session.shutDown(); }

  const std::shared_ptr<Model> model;
  TrainSession session;
};

class TrainHandle : public Napi::ObjectWrap<TrainHandle> {
 public:
  static void init(Napi::Env env, Napi::Object exports) {
    installCpuAllocator();
    Napi::Function constructor = DefineClass(env, "TrainSession",
                                             {
                                                 InstanceAccessor<&TrainHandle::isDisposed>("disposed"),
                                                 InstanceAccessor<&TrainHandle::stepCount>("stepCount"),
                                                 InstanceAccessor<&TrainHandle::microBatch>("microBatch"),
                                                 InstanceMethod<&TrainHandle::dispose>("dispose"),
                                                 InstanceMethod<&TrainHandle::run>("run"),
                                                 InstanceMethod<&TrainHandle::step>("step"),
                                                 InstanceMethod<&TrainHandle::trial>("trial"),
                                                 InstanceMethod<&TrainHandle::diagnose>("diagnose"),
                                                 InstanceMethod<&TrainHandle::stop>("stop"),
                                                 InstanceMethod<&TrainHandle::gradients>("gradients"),
                                                 InstanceMethod<&TrainHandle::snapshot>("snapshot"),
                                                 InstanceMethod<&TrainHandle::operators>("operators"),
                                                 InstanceMethod<&TrainHandle::restore>("restore"),
                                                 InstanceMethod<&TrainHandle::ema>("ema"),
                                                 InstanceMethod<&TrainHandle::learningRate>("learningRate"),
                                                 InstanceMethod<&TrainHandle::observe>("observe"),
                                             });
    exports.Set("TrainSession", constructor);
    Environment::of(env).constructors["TrainSession"] = Napi::Persistent(constructor);
  }

  explicit TrainHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TrainHandle>(info) {
    guarded(info.Env(), [&] {
      std::shared_ptr<Model> model = unwrapGraph(info[0], "graph");
      const Options source(info[1], "options");
      auto loss = std::make_shared<const Graph>(readGraphSpec(source.require("loss")), /*trusted=*/true);
      core_ = std::make_shared<TrainCore>(std::move(model), std::move(loss), readTrainOptions(info[1]));
      Environment::of(info.Env()).addStoppable(core_);
    });
  }

  void Finalize(Napi::Env) override { release(); }

 private:
  TrainCore& core() const {
    if (!core_) throw Error(ErrorKind::Disposed, "the training session was disposed", "TrainSession");
    return *core_;
  }

  void release() {
    if (!core_) return;
    core_->stopAndJoin();
    core_.reset();
  }

  // A promise for one job of the session. `start` hands the job over; what the job captures may be dropped on
  // the session's thread. Until the promise settles this object and `used` are referenced, so that they are
  // not collected meanwhile; the reference to `used` stays here because it must be dropped on the JavaScript
  // thread.
  template <typename Start>
  Napi::Value launch(Napi::Env env, Napi::Value used, Start&& start) {
    auto promise = Promise::create(env);
    Ref();
    const uint64_t job = ++last_job_;
    if (used.IsObject()) in_use_[job] = Napi::Persistent(used.As<Napi::Object>());
    const auto let_go = [this, job, queue = Environment::of(env).queue()] {
      queue->post([this, job](Napi::Env) {
        in_use_.erase(job);
        functions_.erase(job);
        Unref();
      });
    };
    const auto failed = [promise, let_go](std::exception_ptr exception) {
      let_go();
      promise->reject(exception);
    };
    const auto done = [promise, let_go](auto result) {
      let_go();
      auto shared = std::make_shared<decltype(result)>(std::move(result));
      promise->resolve([shared](Napi::Env env) -> Napi::Value { return toObject(env, *shared); });
    };
    try {
      start(done, failed);
    } catch (...) {
      failed(std::current_exception());
    }
    return promise->value();
  }

  // Null if there is none. It stays with this object, on whose thread it must be destroyed.
  static std::shared_ptr<Napi::FunctionReference> readCallback(const Options& source, const char* key) {
    if (!source.has(key)) return nullptr;
    const Napi::Value function = source.get(key);
    if (!function.IsFunction()) throw Error(ErrorKind::Argument, source.name(key) + " must be a function");
    return std::make_shared<Napi::FunctionReference>(Napi::Persistent(function.As<Napi::Function>()));
  }

  template <typename Event>
  static std::function<void(Event)> eventPoster(Napi::Env env,
                                                std::weak_ptr<Napi::FunctionReference> callback) {
    return [queue = Environment::of(env).queue(), callback = std::move(callback)](Event event) {
      queue->post([callback, event = std::move(event)](Napi::Env env) {
        if (auto function = callback.lock()) function->Call({toObject(env, event)});
      });
    };
  }

  // A Loader, or an array of batches in memory.
  static std::shared_ptr<BatchSource> readSource(Napi::Value value) {
    if (!value.IsArray()) return unwrapLoader(value, "source");
    Napi::Array array = value.As<Napi::Array>();
    std::vector<Batch> batches;
    for (uint32_t i = 0; i < array.Length(); ++i) {
      batches.push_back(Batch{readTensors(array.Get(i), "source[" + std::to_string(i) + "]")});
    }
    return std::make_shared<MemorySource>(std::move(batches));
  }

  Napi::Value run(const Napi::CallbackInfo& info) {
    return launch(info.Env(), info[0], [&](auto done, auto failed) {
      TrainSession& session = core().session;
      const Options source(info[1], "options");
      RunOptions options;
      options.steps = source.integer("steps");
      if (options.steps < 0) throw Error(ErrorKind::Argument, source.name("steps") + " must not be negative");
      options.event_interval = source.number("event_interval_ms", options.event_interval * 1000) / 1000;
      const auto on_event = readCallback(source, "onEvent");
      const auto on_out_of_memory = readCallback(source, "onOutOfMemory");
      options.on_halved = eventPoster<Halving>(info.Env(), on_out_of_memory);
      std::shared_ptr<BatchSource> batches = readSource(info[0]);
      session.run(core().model->graph, std::move(batches), options,
                  eventPoster<StepsEvent>(info.Env(), on_event), done, failed);
      // Until it ends: functions commonly refer to this object, and would keep it from being collected.
      functions_[last_job_] = {on_event, on_out_of_memory};
    });
  }

  Napi::Value diagnose(const Napi::CallbackInfo& info) {
    return launch(info.Env(), info[0], [&](auto done, auto failed) {
      TrainSession& session = core().session;
      session.diagnose(core().model->graph, readSource(info[0]), done, failed);
    });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    return launch(info.Env(), info.Env().Undefined(), [&](auto done, auto failed) {
      TrainSession& session = core().session;
      const Options source(info[1], "options");
      Batch batch{readTensors(info[0], "batch")};
      session.step(core().model->graph, std::move(batch), source.boolean("update", true), done, failed);
    });
  }

  Napi::Value trial(const Napi::CallbackInfo& info) {
    return launch(info.Env(), info.Env().Undefined(), [&](auto done, auto failed) {
      TrainSession& session = core().session;
      const Options source(info[1], "options");
      Batch batch{readTensors(info[0], "batch")};
      const int64_t rows = source.integer("rows");
      if (rows < 0) throw Error(ErrorKind::Argument, source.name("rows") + " must not be negative");
      session.trial(core().model->graph, std::move(batch), rows, done, failed);
    });
  }

  Napi::Value gradients(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&]() -> Napi::Value { return toObject(info.Env(), core().session.gradients()); });
  }

  Napi::Value operators(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Napi::Array list = Napi::Array::New(info.Env());
      for (const auto& [name, path] : core().session.operators()) {
        Napi::Object entry = Napi::Object::New(info.Env());
        entry.Set("op", name);
        entry.Set("path", path);
        list.Set(list.Length(), entry);
      }
      return list;
    });
  }

  Napi::Value snapshot(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Options source(info[0], "options");
      return toObject(info.Env(), core().session.snapshot(source.boolean("share", false)));
    });
  }

  Napi::Value ema(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value { return toObject(info.Env(), core().session.ema()); });
  }

  void restore(const Napi::CallbackInfo& info) {
    guarded(info.Env(),
            [&] { core().session.restore(readTensors(info[0], "entries"), readInteger(info[1], "step")); });
  }

  Napi::Value learningRate(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t step = readInteger(info[0], "step");
      if (step < 0) throw Error(ErrorKind::Argument, "step must not be negative");
      return Napi::Number::New(info.Env(), core().session.learningRate(step));
    });
  }

  void observe(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { core().session.observe(readNumber(info[0], "metric")); });
  }

  Napi::Value stepCount(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::Number::New(info.Env(), static_cast<double>(core().session.stepCount()));
    });
  }

  Napi::Value microBatch(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int64_t rows = core().session.microBatch();
      return rows == 0 ? info.Env().Null() : Napi::Number::New(info.Env(), static_cast<double>(rows));
    });
  }

  void stop(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { core().session.stop(); });
  }

  void dispose(const Napi::CallbackInfo&) { release(); }
  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !core_); }

  std::shared_ptr<TrainCore> core_;
  // By job.
  uint64_t last_job_ = 0;
  std::unordered_map<uint64_t, Napi::ObjectReference> in_use_;
  std::unordered_map<uint64_t, std::vector<std::shared_ptr<Napi::FunctionReference>>> functions_;
};

void init(Napi::Env env, Napi::Object exports) {
  TrainHandle::init(env, exports);
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
