// `widerAveragePrecision` of the contract.
#include "metrics/wider.h"

#include <memory>
#include <string>
#include <utility>

#include "bindings/compute_pool.h"
#include "bindings/environment.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "core/error.h"

namespace fornax::bindings {

namespace {

// A copy: JavaScript may detach the buffer while the thread works.
template <typename T, typename Array>
std::vector<T> copyOf(Napi::Value value, napi_typedarray_type type, const std::string& what,
                      const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Error(ErrorKind::Argument, what + " must be " + expected);
  }
  auto array = value.As<Array>();
  std::vector<T> values(array.ElementLength());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(array[i]);
  return values;
}

std::vector<double> doubles(const Options& source, const char* key) {
  return copyOf<double, Napi::Float64Array>(source.require(key), napi_float64_array, source.name(key),
                                            "a Float64Array");
}

std::vector<int64_t> offsets(const Options& source, const char* key) {
  return copyOf<int64_t, Napi::Int32Array>(source.require(key), napi_int32_array, source.name(key),
                                           "an Int32Array");
}

Napi::Float64Array toFloat64Array(Napi::Env env, const std::vector<double>& values) {
  auto array = Napi::Float64Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) array[i] = values[i];
  return array;
}

Napi::Value toArray(Napi::Env env, const std::vector<WiderResult>& results) {
  Napi::Array array = Napi::Array::New(env, results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("average_precision", results[i].average_precision);
    object.Set("faces", static_cast<double>(results[i].faces));
    object.Set("precision", toFloat64Array(env, results[i].precision));
    object.Set("recall", toFloat64Array(env, results[i].recall));
    array.Set(static_cast<uint32_t>(i), object);
  }
  return array;
}

Napi::Value widerAveragePrecision(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Options source(info[0], "options");
    auto set = std::make_shared<WiderSet>();
    set->predictions = doubles(source, "predictions");
    set->prediction_offsets = offsets(source, "prediction_offsets");
    set->faces = doubles(source, "faces");
    set->face_offsets = offsets(source, "face_offsets");
    WiderOptions options;
    options.iou_threshold = source.number("iou_threshold", options.iou_threshold);
    options.thresholds = source.integer("thresholds", options.thresholds);
    auto settings = std::make_shared<std::vector<std::vector<uint8_t>>>();
    Napi::Array given = readArray(source.require("settings"), source.name("settings"));
    for (uint32_t i = 0; i < given.Length(); ++i) {
      settings->push_back(copyOf<uint8_t, Napi::Uint8Array>(
          given.Get(i), napi_uint8_array, "options.settings[" + std::to_string(i) + "]", "a Uint8Array"));
    }
    auto promise = Promise::create(env);
    runOnComputeThread(env, promise, [promise, set, settings, options] {
      auto results = std::make_shared<std::vector<WiderResult>>(evaluateWider(*set, *settings, options));
      promise->resolve([results](Napi::Env env) -> Napi::Value { return toArray(env, *results); });
    });
    return promise->value();
  });
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("widerAveragePrecision",
              Napi::Function::New(env, widerAveragePrecision, "widerAveragePrecision"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
