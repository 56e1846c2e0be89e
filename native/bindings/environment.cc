#include "bindings/environment.h"

#include <c10/util/Exception.h>

#include <new>
#include <utility>

#include "core/error.h"

namespace fornax::bindings {

namespace {

const char* className(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Fornax:
      return "FornaxError";
    case ErrorKind::Data:
      return "DataError";
    case ErrorKind::Device:
      return "DeviceError";
    case ErrorKind::Weights:
      return "WeightsError";
    case ErrorKind::Graph:
      return "GraphError";
    case ErrorKind::Guard:
      return "GuardError";
    case ErrorKind::Execution:
      return "ExecutionError";
    case ErrorKind::Train:
      return "TrainError";
    case ErrorKind::Disposed:
      return "DisposedError";
    case ErrorKind::Argument:
      return "ArgumentError";
    case ErrorKind::Aborted:
      return "AbortedError";
  }
  return "FornaxError";
}

// Whatever was thrown, as one of ours.
Error describe(std::exception_ptr exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return error;
  } catch (const c10::OutOfMemoryError& error) {
    return Error(ErrorKind::Device, std::string("out of memory: ") + error.what_without_backtrace(), "",
                 "use a smaller batch size or resolution");
  } catch (const c10::Error& error) {
    return Error(ErrorKind::Execution, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::Device, "out of memory", "", "use a smaller batch size or resolution");
  } catch (const std::exception& error) {
    return Error(ErrorKind::Fornax, error.what());
  } catch (...) {
    return Error(ErrorKind::Fornax, "unknown native error");
  }
}

}  // namespace

void reportMemory(napi_env env, int64_t change) noexcept {
  int64_t total = 0;
  napi_adjust_external_memory(env, change, &total);  // a failure (the environment ends) is of no consequence
}

// ---- JsQueue ----

JsQueue::JsQueue(Napi::Env env) {
  napi_value name = Napi::String::New(env, "fornax");
  auto call = [](napi_env raw, napi_value, void*, void* data) {
    std::unique_ptr<std::function<void(Napi::Env)>> function(
        static_cast<std::function<void(Napi::Env)>*>(data));
    if (raw == nullptr) return;  // the environment is being torn down
    Napi::Env env(raw);
    try {
      Napi::HandleScope scope(env);
      (*function)(env);
    } catch (const Napi::Error& error) {
      // A callback of the user threw (onEvent, onProgress): an uncaught exception, as for any other callback.
      // A worker thread that is being terminated fails every call into it; then there is nobody to tell.
      try {
        napi_fatal_exception(raw, error.Value());
      } catch (...) {
      }
    } catch (...) {
      // Everything that is posted converts its exceptions; what is left here is the environment's end.
    }
  };
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr,
                                                       nullptr, call, &function_);
  if (status != napi_ok) throw Napi::Error::New(env, "cannot create the queue into JavaScript");
  napi_unref_threadsafe_function(env, function_);
}

JsQueue::~JsQueue() {
  close();
}

bool JsQueue::post(std::function<void(Napi::Env)> function) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (function_ == nullptr) return false;
  auto data = std::make_unique<std::function<void(Napi::Env)>>(std::move(function));
  if (napi_call_threadsafe_function(function_, data.get(), napi_tsfn_nonblocking) != napi_ok) return false;
  data.release();
  return true;
}

void JsQueue::hold(Napi::Env env) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (function_ != nullptr && holders_++ == 0) napi_ref_threadsafe_function(env, function_);
}

void JsQueue::release(Napi::Env env) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (function_ != nullptr && --holders_ == 0) napi_unref_threadsafe_function(env, function_);
}

void JsQueue::close() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (function_ == nullptr) return;
  napi_release_threadsafe_function(function_, napi_tsfn_abort);
  function_ = nullptr;
}

// ---- Environment ----

void Environment::create(Napi::Env env) {
  auto environment = std::make_unique<Environment>();
  environment->queue_ = std::make_shared<JsQueue>(env);
  Environment* raw = environment.get();
  env.SetInstanceData<Environment>(environment.release());
  // Runs before the finalizers of this environment's objects, while the native threads may still be at work.
  napi_add_env_cleanup_hook(env, [](void* data) { static_cast<Environment*>(data)->teardown(); }, raw);
  // process.exit() and an uncaught exception on the main thread run no cleanup hooks: they go straight to
  // exit(), whose static destructors would take libtorch away under running threads. They do emit 'exit'.
  Napi::Object process = env.Global().Get("process").As<Napi::Object>();
  Napi::Function on = process.Get("once").As<Napi::Function>();
  on.Call(process,
          {Napi::String::New(env, "exit"), Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
             Environment::of(info.Env()).teardown();
           })});
}

Environment& Environment::of(Napi::Env env) {
  return *env.GetInstanceData<Environment>();
}

void Environment::teardown() {
  closed_ = true;
  queue_->close();
  for (auto& weak : stoppables_) {
    if (auto stoppable = weak.lock()) stoppable->stopAndJoin();
  }
  stoppables_.clear();
}

void Environment::addStoppable(const std::shared_ptr<Stoppable>& stoppable) {
  // A later listener of 'exit' may still create sessions: they get no threads.
  if (closed_) throw Error(ErrorKind::Aborted, "the process is exiting");
  stoppables_.remove_if([](const std::weak_ptr<Stoppable>& weak) { return weak.expired(); });
  stoppables_.push_back(stoppable);
}

Napi::Error Environment::toError(Napi::Env env, std::exception_ptr exception) {
  Error error = describe(exception);
  auto found = error_classes.find(className(error.kind));
  if (found == error_classes.end()) {
    return Napi::Error::New(env, std::string(className(error.kind)) + ": " + error.what());
  }
  Napi::Object details = Napi::Object::New(env);
  details.Set("what", std::string(error.what()));
  if (!error.where.empty()) details.Set("where", error.where);
  if (!error.fix.empty()) details.Set("fix", error.fix);
  Napi::Object instance = found->second.New({details});
  return Napi::Error(env, instance);
}

// ---- Promise ----

namespace {
void releaseAll(const std::shared_ptr<std::vector<Napi::ObjectReference>>& kept) {
  if (!kept) return;
  for (auto& reference : *kept) reference.Reset();
}
}  // namespace

Promise::Promise(Napi::Env env) : deferred_(env), queue_(Environment::of(env).queue()) {
  queue_->hold(env);
}

std::shared_ptr<Promise> Promise::create(Napi::Env env) {
  return std::make_shared<Promise>(env);
}

void Promise::keepAlive(Napi::Object object) {
  if (!kept_) kept_ = std::make_shared<std::vector<Napi::ObjectReference>>();
  kept_->push_back(Napi::Persistent(object));
  kept_->back().SuppressDestruct();  // given up on the JavaScript thread only, or with the environment
}

void Promise::resolve(std::function<Napi::Value(Napi::Env)> make) {
  queue_->post([deferred = deferred_, queue = queue_, kept = kept_, make = std::move(make)](Napi::Env env) {
    queue->release(env);
    releaseAll(kept);
    try {
      deferred.Resolve(guarded(env, [&] { return make(env); }));
    } catch (const Napi::Error& error) {
      deferred.Reject(error.Value());
    }
  });
}

void Promise::reject(std::exception_ptr exception) {
  queue_->post([deferred = deferred_, queue = queue_, kept = kept_, exception](Napi::Env env) {
    queue->release(env);
    releaseAll(kept);
    deferred.Reject(Environment::of(env).toError(env, exception).Value());
  });
}

}  // namespace fornax::bindings
