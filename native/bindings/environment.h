// What the addon keeps per Node environment (the main thread, each worker thread): the error classes, the
// constructors of the handles, the queue back into JavaScript, and the list of things to stop at teardown.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace fornax::bindings {

// Something with threads of its own, stopped and joined when the environment goes away (process.exit(), an
// uncaught exception, a terminated worker). stopAndJoin() is called on the JavaScript thread, must not call
// into JavaScript and must return once no native thread of it runs any more. Calling it twice is fine.
class Stoppable {
 public:
  virtual ~Stoppable() = default;
  virtual void stopAndJoin() noexcept = 0;
};

// Runs functions on the JavaScript thread of one environment, from any thread. Keeps the event loop alive
// only while somebody holds a Pending. After teardown, posted functions are dropped (destroyed without being
// called).
class JsQueue {
 public:
  explicit JsQueue(Napi::Env env);
  ~JsQueue();
  // Never blocks. False if the environment is gone.
  bool post(std::function<void(Napi::Env)> function);
  // Keep the event loop alive between hold() and release(); JavaScript thread only.
  void hold(Napi::Env env);
  void release(Napi::Env env);
  void close();  // at teardown

 private:
  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;
  int holders_ = 0;
};

class Environment {
 public:
  static Environment& of(Napi::Env env);
  static void create(Napi::Env env);

  // Turns any exception into the JavaScript error it is declared to become.
  Napi::Error toError(Napi::Env env, std::exception_ptr exception);

  void addStoppable(const std::shared_ptr<Stoppable>& stoppable);  // held weakly

  const std::shared_ptr<JsQueue>& queue() const { return queue_; }

  std::unordered_map<std::string, Napi::FunctionReference> error_classes;
  std::unordered_map<std::string, Napi::FunctionReference> constructors;  // of the handles, by class name
  std::shared_ptr<Stoppable> io;                                          // see io_pool.h
  std::shared_ptr<Stoppable> compute;                                     // see compute_pool.h
  std::shared_ptr<Stoppable> measure;                                     // see precision.cc

 private:
  void teardown();
  std::shared_ptr<JsQueue> queue_;
  std::list<std::weak_ptr<Stoppable>> stoppables_;
  bool closed_ = false;
};

// Tells V8's collector of memory that JavaScript objects hold natively (bytes; negative when it is released).
// Never throws: finalizers call it, also at the end of an environment.
void reportMemory(napi_env env, int64_t change) noexcept;

// Runs `function` and throws its exceptions as typed JavaScript errors. Every entry point goes through this.
template <typename Function>
auto guarded(Napi::Env env, Function&& function) -> decltype(function()) {
  try {
    return function();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Environment::of(env).toError(env, std::current_exception());
  }
}

// A promise that any thread may settle, once. Keeps the event loop alive until then. If it is destroyed
// unsettled (teardown), nothing happens.
class Promise {
 public:
  static std::shared_ptr<Promise> create(Napi::Env env);
  Napi::Value value() const { return deferred_.Promise(); }  // JavaScript thread
  // Protects `object` from garbage collection until the promise is settled; any number of objects. JavaScript
  // thread, before any settling.
  void keepAlive(Napi::Object object);
  // Any thread; `make` runs on the JavaScript thread.
  void resolve(std::function<Napi::Value(Napi::Env)> make);
  void reject(std::exception_ptr exception);

  explicit Promise(Napi::Env env);

 private:
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<JsQueue> queue_;
  std::shared_ptr<std::vector<Napi::ObjectReference>> kept_;
};

}  // namespace fornax::bindings
