#include "bindings/dist.h"

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "bindings/environment.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"
#include "train/job_thread.h"

namespace fornax::bindings {

namespace {

constexpr napi_type_tag kGroupTag = {0x666f726e61786469ULL, 0x9d1c6b0e4f5a4b27ULL};

// A connected group and the thread that waits for texts.
class GroupCore : public Stoppable {
 public:
  explicit GroupCore(std::shared_ptr<ProcessGroup> connected)
      : group(std::move(connected)), thread("fornax-dist") {}
  void stopAndJoin() noexcept override {
    group->interrupt();
    thread.close();
  }

  const std::shared_ptr<ProcessGroup> group;
  JobThread thread;
};

class ProcessGroupHandle : public Napi::ObjectWrap<ProcessGroupHandle> {
 public:
  static void init(Napi::Env env) {
    Napi::Function constructor =
        DefineClass(env, "ProcessGroup",
                    {
                        InstanceAccessor<&ProcessGroupHandle::isDisposed>("disposed"),
                        InstanceAccessor<&ProcessGroupHandle::rank>("rank"),
                        InstanceAccessor<&ProcessGroupHandle::world>("world"),
                        InstanceMethod<&ProcessGroupHandle::dispose>("dispose"),
                        InstanceMethod<&ProcessGroupHandle::gather>("gather"),
                    });
    Environment::of(env).constructors["ProcessGroup"] = Napi::Persistent(constructor);
  }

  static Napi::Object wrap(Napi::Env env, std::shared_ptr<ProcessGroup> group) {
    Napi::Object object = Environment::of(env).constructors["ProcessGroup"].New({});
    auto core = std::make_shared<GroupCore>(std::move(group));
    Environment::of(env).addStoppable(core);
    Unwrap(object)->core_ = std::move(core);
    return object;
  }

  explicit ProcessGroupHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ProcessGroupHandle>(info) {
    napi_type_tag_object(info.Env(), info.This(), &kGroupTag);
  }

  void Finalize(Napi::Env) override { release(); }

  GroupCore& core() const {
    if (!core_) throw Error(ErrorKind::Disposed, "the process group was disposed", "ProcessGroup");
    return *core_;
  }

 private:
  void release() {
    if (!core_) return;
    core_->stopAndJoin();
    core_.reset();
  }

  Napi::Value gather(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::string text = readString(info[0], "text");
      GroupCore& joined = core();
      // Nothing may throw from here on: a promise that is never settled keeps the process alive.
      auto promise = Promise::create(info.Env());
      promise->keepAlive(info.This().As<Napi::Object>());
      const bool posted = joined.thread.post([promise, group = joined.group, text] {
        try {
          auto texts = std::make_shared<std::vector<std::string>>(group->gather(text));
          promise->resolve([texts](Napi::Env env) -> Napi::Value {
            Napi::Array array = Napi::Array::New(env, texts->size());
            for (size_t i = 0; i < texts->size(); ++i) array.Set(static_cast<uint32_t>(i), (*texts)[i]);
            return array;
          });
        } catch (...) {
          promise->reject(std::current_exception());
        }
      });
      if (!posted) {
        promise->reject(std::make_exception_ptr(
            Error(ErrorKind::Aborted, "the process group is closed", "ProcessGroup")));
      }
      return promise->value();
    });
  }

  Napi::Value rank(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&]() -> Napi::Value { return Napi::Number::New(info.Env(), core().group->rank()); });
  }
  Napi::Value world(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&]() -> Napi::Value { return Napi::Number::New(info.Env(), core().group->size()); });
  }
  void dispose(const Napi::CallbackInfo&) { release(); }
  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !core_); }

  std::shared_ptr<GroupCore> core_;
};

ProcessGroupOptions readProcessGroupOptions(Napi::Value value) {
  const Options source(value, "options");
  ProcessGroupOptions options;
  for (const char* key : {"rank", "world", "port"}) source.require(key);
  options.rank = source.integer("rank", -1, 0, 65535);
  options.size = source.integer("world", 0, 1, 65536);
  options.host = source.string("host");
  options.port = source.integer("port", 0, 1, 65535);
  options.server = source.boolean("server", options.rank == 0);
  options.prefix = source.string("prefix", options.prefix);
  options.interface = source.string("interface", "");
  options.device = parseComputeDevice(source.string("device"));
  const double seconds = source.number("timeout_seconds", 1800);
  if (!(seconds > 0 && seconds < 1e9)) {
    throw Error(ErrorKind::Argument, source.name("timeout_seconds") + " must be greater than 0");
  }
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  return options;
}

// On a thread of its own that nobody joins: finding the others cannot be interrupted, and a process that ends
// meanwhile must not wait for it.
Napi::Value connectProcesses(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const ProcessGroupOptions options = readProcessGroupOptions(info[0]);
    auto promise = Promise::create(info.Env());
    std::thread([promise, options] {
      try {
        auto group = ProcessGroup::connect(options);
        promise->resolve(
            [group](Napi::Env env) -> Napi::Value { return ProcessGroupHandle::wrap(env, group); });
      } catch (...) {
        promise->reject(std::current_exception());
      }
    }).detach();
    return promise->value();
  });
}

void init(Napi::Env env, Napi::Object exports) {
  ProcessGroupHandle::init(env);
  exports.Set("connectProcesses", Napi::Function::New(env, connectProcesses, "connectProcesses"));
}

}  // namespace

std::shared_ptr<ProcessGroup> unwrapProcessGroup(Napi::Value value, const std::string& what) {
  bool tagged = false;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kGroupTag, &tagged) != napi_ok ||
      !tagged) {
    throw Error(ErrorKind::Argument, what + " must be a ProcessGroup");
  }
  return ProcessGroupHandle::Unwrap(value.As<Napi::Object>())->core().group;
}

FORNAX_BINDING(init);

}  // namespace fornax::bindings
