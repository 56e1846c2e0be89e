// readTensors and writeTensors of the contract.
#include "io/tensor_file.h"

#include <ATen/ATen.h>

#include "bindings/environment.h"
#include "bindings/io_pool.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"

namespace fornax::bindings {

namespace {

Napi::Value readTensorsAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string path = readString(info[0], "path");
    Napi::Array given = readArray(info[1], "tensors");
    std::vector<TensorRange> ranges;
    for (uint32_t i = 0; i < given.Length(); ++i) {
      Options range(given.Get(i), "tensors[" + std::to_string(i) + "]");
      ranges.push_back({range.string("name"), parseDtype(range.string("dtype"), range.name("dtype")),
                        readIntegers(range.require("shape"), range.name("shape")), range.integer("offset"),
                        range.integer("length")});
    }
    auto promise = Promise::create(env);
    runOnIoThread(env, promise, [promise, path, ranges] {
      auto tensors = std::make_shared<std::vector<at::Tensor>>(readTensors(path, ranges));
      promise->resolve([tensors](Napi::Env env) -> Napi::Value {
        Napi::Array array = Napi::Array::New(env, tensors->size());
        for (size_t i = 0; i < tensors->size(); ++i) {
          array.Set(static_cast<uint32_t>(i), wrapTensor(env, (*tensors)[i]));
        }
        return array;
      });
    });
    return promise->value();
  });
}

Napi::Value writeTensorsAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string path = readString(info[0], "path");
    if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
      throw Error(ErrorKind::Argument, "header must be a Uint8Array");
    }
    auto bytes = info[1].As<Napi::Uint8Array>();
    std::string header(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
    Napi::Array given = readArray(info[2], "tensors");
    std::vector<at::Tensor> tensors;
    for (uint32_t i = 0; i < given.Length(); ++i) {
      tensors.push_back(unwrapTensor(given.Get(i), "tensors[" + std::to_string(i) + "]"));
    }
    auto promise = Promise::create(env);
    runOnIoThread(env, promise, [promise, path, header = std::move(header), tensors = std::move(tensors)] {
      std::string digest = writeTensors(path, header, tensors);
      promise->resolve([digest](Napi::Env env) -> Napi::Value { return Napi::String::New(env, digest); });
    });
    return promise->value();
  });
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("readTensors", Napi::Function::New(env, readTensorsAsync, "readTensors"));
  exports.Set("writeTensors", Napi::Function::New(env, writeTensorsAsync, "writeTensors"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
