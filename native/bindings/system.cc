#include <napi.h>

#include "bindings/environment.h"
#include "bindings/registry.h"
#include "device/system_info.h"

namespace fornax::bindings {

namespace {

Napi::Value optionalString(Napi::Env env, const std::optional<std::string>& value) {
  if (!value) return env.Null();
  return Napi::String::New(env, *value);
}

Napi::Object cudaObject(Napi::Env env, const CudaInfo& cuda) {
  Napi::Array devices = Napi::Array::New(env, cuda.devices.size());
  for (uint32_t i = 0; i < cuda.devices.size(); ++i) {
    const CudaDevice& device = cuda.devices[i];
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", device.name);
    object.Set("memory", static_cast<double>(device.memory));
    object.Set("free", static_cast<double>(device.free));
    object.Set("capability", device.capability);
    object.Set("multiprocessors", device.multiprocessors);
    devices.Set(i, object);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("built", cuda.built);
  object.Set("available", cuda.available);
  object.Set("reason", optionalString(env, cuda.reason));
  object.Set("driver", optionalString(env, cuda.driver));
  object.Set("runtime", optionalString(env, cuda.runtime));
  object.Set("cudnn", optionalString(env, cuda.cudnn));
  object.Set("devices", devices);
  return object;
}

Napi::Value systemInfoObject(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  return guarded(env, [&]() -> Napi::Value {
    const SystemInfo info = systemInfo();
    Napi::Object features = Napi::Object::New(env);
    features.Set("avx2", info.cpu_features.avx2);
    features.Set("avx512", info.cpu_features.avx512);
    features.Set("avx512_bf16", info.cpu_features.avx512_bf16);
    features.Set("avx512_vnni", info.cpu_features.avx512_vnni);
    features.Set("amx_bf16", info.cpu_features.amx_bf16);
    features.Set("amx_int8", info.cpu_features.amx_int8);

    Napi::Object object = Napi::Object::New(env);
    object.Set("torch_version", info.torch_version);
    object.Set("torch_cuda", optionalString(env, info.cuda.runtime));
    object.Set("cpu_capability", info.cpu_capability);
    object.Set("cpu_features", features);
    object.Set("threads", info.threads);
    object.Set("interop_threads", info.interop_threads);
    object.Set("mkldnn", info.mkldnn);
    object.Set("mkl", info.mkl);
    object.Set("openmp", info.openmp);
    object.Set("cpu_allocator", info.cpu_allocator);
    object.Set("cuda", cudaObject(env, info.cuda));
    return object;
  });
}

void initSystem(Napi::Env env, Napi::Object exports) {
  exports.Set("systemInfo", Napi::Function::New(env, systemInfoObject, "systemInfo"));
}

}  // namespace

FORNAX_BINDING(initSystem);

}  // namespace fornax::bindings
