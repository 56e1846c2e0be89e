// readTensors, writeTensors and tensorChecksums of the contract.
#include "io/tensor_file.h"

#include <ATen/ATen.h>

#include "bindings/environment.h"
#include "bindings/io_pool.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "bindings/tensor_ranges.h"
#include "core/error.h"

namespace fornax::bindings {

namespace {

Napi::Value readTensorsAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string path = readString(info[0], "path");
    std::vector<TensorRange> ranges = readRanges(info[1], "tensors");
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

FileChunk readChunk(Napi::Value value, const std::string& what) {
  if (!value.IsTypedArray()) return {"", unwrapTensor(value, what)};
  if (value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Error(ErrorKind::Argument, what + " must be a Uint8Array or a Tensor");
  }
  auto bytes = value.As<Napi::Uint8Array>();
  return {std::string(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength()), {}};
}

Napi::Value writeTensorsAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string path = readString(info[0], "path");
    Napi::Array given = readArray(info[1], "chunks");
    std::vector<FileChunk> chunks;
    for (uint32_t i = 0; i < given.Length(); ++i) {
      chunks.push_back(readChunk(given.Get(i), "chunks[" + std::to_string(i) + "]"));
    }
    auto promise = Promise::create(env);
    runOnIoThread(env, promise, [promise, path, chunks = std::move(chunks)] {
      std::string digest = writeChunks(path, chunks);
      promise->resolve([digest](Napi::Env env) -> Napi::Value { return Napi::String::New(env, digest); });
    });
    return promise->value();
  });
}

Napi::Value checksumsAsync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Array given = readArray(info[0], "tensors");
    std::vector<at::Tensor> tensors;
    for (uint32_t i = 0; i < given.Length(); ++i) {
      tensors.push_back(unwrapTensor(given.Get(i), "tensors[" + std::to_string(i) + "]"));
    }
    auto promise = Promise::create(env);
    runOnIoThread(env, promise, [promise, tensors = std::move(tensors)] {
      std::vector<uint32_t> values = checksums(tensors);
      promise->resolve([values](Napi::Env env) -> Napi::Value {
        Napi::Array array = Napi::Array::New(env, values.size());
        for (size_t i = 0; i < values.size(); ++i) array.Set(static_cast<uint32_t>(i), values[i]);
        return array;
      });
    });
    return promise->value();
  });
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("readTensors", Napi::Function::New(env, readTensorsAsync, "readTensors"));
  exports.Set("writeTensors", Napi::Function::New(env, writeTensorsAsync, "writeTensors"));
  exports.Set("tensorChecksums", Napi::Function::New(env, checksumsAsync, "tensorChecksums"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
