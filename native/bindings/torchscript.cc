// writeTorchScript and runTorchScript of the contract.
#include "export/torchscript.h"

#include "bindings/compute_pool.h"
#include "bindings/environment.h"
#include "bindings/io_pool.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"

namespace fornax::bindings {

namespace {

ScriptTensor readScriptTensor(Napi::Value value, const std::string& what) {
  Options entry(value, what);
  using Kind = ScriptTensor::Kind;
  constexpr Kind kinds[] = {Kind::Parameter, Kind::Buffer};
  size_t kind = entry.choice("kind", {"parameter", "buffer"}, "parameter");
  return {entry.string("name"), kinds[kind], unwrapTensor(entry.require("tensor"), entry.name("tensor"))};
}

Napi::Value write(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string path = readString(info[0], "path");
    Options module(info[1], "module");
    std::string source = module.string("source");
    Napi::Array given = readArray(module.require("tensors"), module.name("tensors"));
    std::vector<ScriptTensor> tensors;
    for (uint32_t i = 0; i < given.Length(); ++i) {
      tensors.push_back(readScriptTensor(given.Get(i), "module.tensors[" + std::to_string(i) + "]"));
    }
    Napi::Object files = readObject(module.require("extra"), module.name("extra"));
    Napi::Array names = files.GetPropertyNames();
    std::vector<std::pair<std::string, std::string>> extra;
    for (uint32_t i = 0; i < names.Length(); ++i) {
      std::string name = names.Get(i).As<Napi::String>();
      extra.emplace_back(name, readString(files.Get(name), "module.extra." + name));
    }
    auto promise = Promise::create(env);
    runOnIoThread(env, promise,
                  [promise, path, source, tensors = std::move(tensors), extra = std::move(extra)] {
                    writeTorchScript(path, source, tensors, extra);
                    promise->resolve([](Napi::Env env) -> Napi::Value { return env.Undefined(); });
                  });
    return promise->value();
  });
}

Napi::Value toResult(Napi::Env env, const ScriptRun& run) {
  Napi::Object outputs = Napi::Object::New(env);
  for (const auto& [name, tensor] : run.outputs) outputs.Set(name, wrapTensor(env, tensor));
  Napi::Array state = Napi::Array::New(env, run.state.size());
  for (size_t i = 0; i < run.state.size(); ++i) {
    const auto& [name, kind, tensor] = run.state[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", name);
    entry.Set("kind", kind == ScriptTensor::Kind::Parameter ? "parameter" : "buffer");
    entry.Set("tensor", wrapTensor(env, tensor.detach()));
    state.Set(static_cast<uint32_t>(i), entry);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("outputs", outputs);
  result.Set("state", state);
  return result;
}

Napi::Value run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string path = readString(info[0], "path");
    Napi::Array given = readArray(info[1], "inputs");
    std::vector<at::Tensor> inputs;
    for (uint32_t i = 0; i < given.Length(); ++i) {
      inputs.push_back(unwrapTensor(given.Get(i), "inputs[" + std::to_string(i) + "]"));
    }
    auto promise = Promise::create(env);
    runOnComputeThread(env, promise, [promise, path, inputs = std::move(inputs)] {
      auto result = std::make_shared<ScriptRun>(runTorchScript(path, inputs));
      promise->resolve([result](Napi::Env env) -> Napi::Value { return toResult(env, *result); });
    });
    return promise->value();
  });
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("writeTorchScript", Napi::Function::New(env, write, "writeTorchScript"));
  exports.Set("runTorchScript", Napi::Function::New(env, run, "runTorchScript"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
