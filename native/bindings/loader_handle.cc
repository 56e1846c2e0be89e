#include "bindings/loader_handle.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "bindings/environment.h"
#include "bindings/loader_options.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"
#include "data/epoch_source.h"

namespace fornax::bindings {

namespace {

constexpr napi_type_tag kLoaderTag = {0x6f726e61786c6f61ULL, 0x5be1d07f29c34a86ULL};

Napi::Value toObject(Napi::Env env, const Batch& batch) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, tensor] : batch.fields) object.Set(name, wrapTensor(env, tensor));
  return object;
}

// The loader, who uses it, and the thread that waits for next(). Shared by the handle and by runs.
class SharedLoader : public Stoppable {
 public:
  explicit SharedLoader(std::unique_ptr<EpochSource> loader) : loader_(std::move(loader)) {}
  ~SharedLoader() override { stopAndJoin(); }

  EpochSource& loader() { return *loader_; }

  // A run takes the loader, or a script's next() is under way: JavaScript thread.
  void checkFree(const std::string& what) {
    std::lock_guard lock(mutex_);
    if (leased_) {
      throw Error(ErrorKind::Argument, "a session is running on this loader", what,
                  "wait until its run() or evaluate() has ended, or stop() it");
    }
    if (pending_ > 0) {
      throw Error(ErrorKind::Argument, "a next() of this loader is still pending", what, "await it first");
    }
  }

  void lease(const std::string& what) {
    checkFree(what);
    std::lock_guard lock(mutex_);
    leased_ = true;
  }

  void giveBack() {
    std::lock_guard lock(mutex_);
    leased_ = false;
  }

  // JavaScript thread. Requests are served in order.
  void request(std::shared_ptr<Promise> promise) {
    std::lock_guard lock(mutex_);
    if (leased_) {
      throw Error(ErrorKind::Argument, "a session is running on this loader", "Loader.next",
                  "wait until its run() or evaluate() has ended");
    }
    requests_.push_back(std::move(promise));
    ++pending_;
    if (!reader_.joinable()) reader_ = std::thread([this] { serve(); });
    requested_.notify_one();
  }

  void stopAndJoin() noexcept override {
    loader_->close();
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      requested_.notify_one();
    }
    if (reader_.joinable()) reader_.join();
  }

 private:
  void serve() {
    static const std::atomic<bool> never{false};
    std::unique_lock lock(mutex_);
    while (true) {
      requested_.wait(lock, [this] { return stopping_ || !requests_.empty(); });
      if (requests_.empty()) return;
      std::shared_ptr<Promise> promise = std::move(requests_.front());
      requests_.pop_front();
      lock.unlock();
      auto batch = std::make_shared<Batch>();
      std::exception_ptr failure;
      bool more = false;
      try {
        more = loader_->next(*batch, never);  // ends by close()
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      --pending_;  // before the promise settles: whoever awaited it may start an epoch
      lock.unlock();
      if (failure) {
        promise->reject(failure);
      } else {
        promise->resolve([batch, more](Napi::Env env) { return more ? toObject(env, *batch) : env.Null(); });
      }
      lock.lock();
    }
  }

  const std::unique_ptr<EpochSource> loader_;
  std::mutex mutex_;
  std::condition_variable requested_;
  std::deque<std::shared_ptr<Promise>> requests_;
  int pending_ = 0;
  bool leased_ = false;
  bool stopping_ = false;
  std::thread reader_;
};

class LoaderHandle : public Napi::ObjectWrap<LoaderHandle> {
 public:
  static void init(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor = DefineClass(env, "Loader",
                                             {
                                                 InstanceAccessor<&LoaderHandle::batches>("batches"),
                                                 InstanceAccessor<&LoaderHandle::samples>("samples"),
                                                 InstanceAccessor<&LoaderHandle::isDisposed>("disposed"),
                                                 InstanceMethod<&LoaderHandle::startEpoch>("startEpoch"),
                                                 InstanceMethod<&LoaderHandle::next>("next"),
                                                 InstanceMethod<&LoaderHandle::dispose>("dispose"),
                                             });
    exports.Set("Loader", constructor);
    Environment::of(env).constructors["Loader"] = Napi::Persistent(constructor);
  }

  explicit LoaderHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LoaderHandle>(info) {
    napi_type_tag_object(info.Env(), info.This(), &kLoaderTag);
    guarded(info.Env(), [&] {
      shared_ = std::make_shared<SharedLoader>(makeLoader(info[0]));
      Environment::of(info.Env()).addStoppable(shared_);
      reported_ = shared_->loader().memory();
      reportMemory(info.Env(), reported_);
    });
  }

  void Finalize(Napi::Env env) override { release(env); }

  const std::shared_ptr<SharedLoader>& shared() const {
    if (!shared_) throw Error(ErrorKind::Disposed, "the loader was disposed");
    return shared_;
  }

 private:
  void release(Napi::Env env) {
    if (!shared_) return;
    shared_->stopAndJoin();
    shared_.reset();
    reportMemory(env, -reported_);
  }

  void dispose(const Napi::CallbackInfo& info) { release(info.Env()); }
  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !shared_); }

  Napi::Value batches(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::Number::New(info.Env(), static_cast<double>(shared()->loader().batchesPerEpoch()));
    });
  }

  Napi::Value samples(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::Number::New(info.Env(), static_cast<double>(shared()->loader().samplesPerEpoch()));
    });
  }

  void startEpoch(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int64_t epoch = readInteger(info[0], "epoch");
      const int64_t skip = info[1].IsUndefined() ? 0 : readInteger(info[1], "skip");
      shared()->checkFree("Loader.startEpoch");
      shared()->loader().startEpoch(epoch, skip);
    });
  }

  Napi::Value next(const Napi::CallbackInfo& info) {
    auto promise = Promise::create(info.Env());
    // Collected before its batch is there, the loader would be closed, and the wait end with DisposedError.
    promise->keepAlive(Value());
    try {
      shared()->request(promise);
    } catch (...) {
      promise->reject(std::current_exception());
    }
    return promise->value();
  }

  std::shared_ptr<SharedLoader> shared_;
  int64_t reported_ = 0;  // to V8
};

// Gives the loader back when the last copy of the run's pointer goes.
struct Lease {
  explicit Lease(std::shared_ptr<SharedLoader> taken) : shared(std::move(taken)) {}
  ~Lease() { shared->giveBack(); }
  std::shared_ptr<SharedLoader> shared;
};

}  // namespace

std::shared_ptr<BatchSource> unwrapLoader(Napi::Value value, const std::string& what) {
  bool tagged = false;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kLoaderTag, &tagged) != napi_ok ||
      !tagged) {
    throw Error(ErrorKind::Argument, what + " must be a Loader");
  }
  std::shared_ptr<SharedLoader> shared = LoaderHandle::Unwrap(value.As<Napi::Object>())->shared();
  shared->lease(what);
  auto lease = std::make_shared<Lease>(shared);
  return {std::move(lease), &shared->loader()};
}

namespace {
void init(Napi::Env env, Napi::Object exports) {
  LoaderHandle::init(env, exports);
}
}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
