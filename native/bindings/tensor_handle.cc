#include "bindings/tensor_handle.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "bindings/environment.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "core/error.h"
#include "graph/call.h"

namespace fornax::bindings {

namespace {

struct DtypeEntry {
  const char* name;
  c10::ScalarType type;
};

constexpr DtypeEntry kDtypes[] = {
    {"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
    {"int64", at::kLong},    {"int32", at::kInt},      {"int16", at::kShort},  {"int8", at::kChar},
    {"uint8", at::kByte},    {"bool", at::kBool},
};

// Distinguishes our objects from any other wrapped object that is handed in.
constexpr napi_type_tag kTensorTag = {0x6f726e6178746e73ULL, 0x0a5e9d3c71b24f68ULL};

std::optional<c10::ScalarType> dtypeOf(napi_typedarray_type type) {
  switch (type) {
    case napi_float32_array:
      return at::kFloat;
    case napi_float64_array:
      return at::kDouble;
    case napi_bigint64_array:
      return at::kLong;
    case napi_int32_array:
      return at::kInt;
    case napi_int16_array:
      return at::kShort;
    case napi_int8_array:
      return at::kChar;
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      return at::kByte;
    default:
      return std::nullopt;
  }
}

napi_typedarray_type arrayTypeOf(c10::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return napi_float32_array;
    case at::kDouble:
      return napi_float64_array;
    case at::kLong:
      return napi_bigint64_array;
    case at::kInt:
      return napi_int32_array;
    case at::kShort:
      return napi_int16_array;
    case at::kChar:
      return napi_int8_array;
    case at::kByte:
    case at::kBool:
      return napi_uint8_array;
    default:
      throw Error(ErrorKind::Argument,
                  std::string("a tensor of dtype ") + dtypeName(type) + " has no typed array");
  }
}

class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static void init(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor =
        DefineClass(env, "Tensor",
                    {
                        InstanceAccessor<&TensorHandle::shape>("shape"),
                        InstanceAccessor<&TensorHandle::dtype>("dtype"),
                        InstanceAccessor<&TensorHandle::device>("device"),
                        InstanceAccessor<&TensorHandle::isDisposed>("disposed"),
                        InstanceMethod<&TensorHandle::dispose>("dispose"),
                        InstanceMethod<&TensorHandle::toTypedArray>("toTypedArray"),
                        InstanceMethod<&TensorHandle::to>("to"),
                        InstanceMethod<&TensorHandle::item>("item"),
                        StaticMethod<&TensorHandle::fromTypedArray>("fromTypedArray"),
                        StaticMethod<&TensorHandle::call>("call"),
                    });
    Environment::of(env).constructors["Tensor"] = Napi::Persistent(constructor);
    exports.Set("Tensor", constructor);
  }

  explicit TensorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TensorHandle>(info) {
    napi_type_tag_object(info.Env(), info.This(), &kTensorTag);
    if (info.Length() == 1 && info[0].IsExternal()) {
      tensor_ = std::move(*info[0].As<Napi::External<at::Tensor>>().Data());
      reported_ = static_cast<int64_t>(tensor_.is_cpu() ? tensor_.nbytes() : 0);
      reportMemory(info.Env(), reported_);
    } else {
      guarded(info.Env(), [] {
        throw Error(ErrorKind::Argument, "Tensor has no public constructor", "",
                    "use Tensor.fromTypedArray(data, shape)");
      });
    }
  }

  void Finalize(Napi::Env env) override { release(env); }

  const at::Tensor& tensor() const {
    if (disposed_) throw Error(ErrorKind::Disposed, "the tensor was disposed");
    return tensor_;
  }

 private:
  void release(Napi::Env env) {
    if (disposed_) return;
    disposed_ = true;
    tensor_.reset();
    reportMemory(env, -reported_);
  }

  void dispose(const Napi::CallbackInfo& info) { release(info.Env()); }

  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), disposed_); }

  Napi::Value shape(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      auto sizes = tensor().sizes();
      Napi::Array array = Napi::Array::New(info.Env(), sizes.size());
      for (size_t i = 0; i < sizes.size(); ++i)
        array.Set(static_cast<uint32_t>(i), static_cast<double>(sizes[i]));
      return array;
    });
  }

  Napi::Value dtype(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::String::New(info.Env(), dtypeName(tensor().scalar_type()));
    });
  }

  Napi::Value device(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&]() -> Napi::Value { return Napi::String::New(info.Env(), tensor().device().str()); });
  }

  Napi::Value toTypedArray(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      at::Tensor source = tensor().detach();
      if (source.is_meta()) throw Error(ErrorKind::Argument, "a meta tensor has no values");
      if (source.scalar_type() == at::kHalf || source.scalar_type() == at::kBFloat16)
        source = source.to(at::kFloat);
      source = source.to(at::kCPU).contiguous();
      napi_typedarray_type type = arrayTypeOf(source.scalar_type());
      Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, source.nbytes());
      if (source.nbytes() > 0) std::memcpy(buffer.Data(), source.const_data_ptr(), source.nbytes());
      napi_value array;
      napi_status status =
          napi_create_typedarray(env, type, static_cast<size_t>(source.numel()), buffer, 0, &array);
      if (status != napi_ok) throw Error(ErrorKind::Fornax, "cannot create a typed array");
      return Napi::Value(env, array);
    });
  }

  Napi::Value to(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      Options options(info[0], "options");
      at::Tensor result = tensor();
      if (options.has("device")) result = result.to(parseDevice(options.string("device")));
      if (options.has("dtype")) result = result.to(parseDtype(options.string("dtype"), "options.dtype"));
      return wrapTensor(info.Env(), result);
    });
  }

  Napi::Value item(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      if (tensor().numel() != 1) {
        throw Error(ErrorKind::Argument,
                    "item() needs a tensor of one element, this one has " + std::to_string(tensor().numel()));
      }
      return Napi::Number::New(info.Env(), tensor().detach().to(at::kCPU).to(at::kDouble).item<double>());
    });
  }

  static Napi::Value fromTypedArray(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      if (!info[0].IsTypedArray()) throw Error(ErrorKind::Argument, "data must be a typed array");
      Napi::TypedArray array = info[0].As<Napi::TypedArray>();
      std::vector<int64_t> shape = readIntegers(info[1], "shape");
      Options options(info.Length() > 2 ? info[2] : env.Undefined(), "options");
      napi_typedarray_type kind;
      napi_value buffer;
      void* data = nullptr;
      size_t length = 0, offset = 0;
      napi_get_typedarray_info(env, array, &kind, &length, &data, &buffer, &offset);
      std::optional<c10::ScalarType> natural = dtypeOf(kind);
      std::optional<c10::ScalarType> wanted;
      if (options.has("dtype")) wanted = parseDtype(options.string("dtype"), "options.dtype");
      c10::ScalarType stored = at::kFloat;
      if (kind == napi_uint16_array) {
        if (!wanted || (*wanted != at::kHalf && *wanted != at::kBFloat16 && *wanted != at::kShort)) {
          throw Error(ErrorKind::Argument, "a Uint16Array needs the dtype float16, bfloat16 or int16");
        }
        stored = *wanted;
      } else if (natural) {
        stored = *natural;
      } else {
        throw Error(ErrorKind::Argument, "data is of a kind of typed array that has no dtype");
      }
      int64_t count = 1;
      for (int64_t size : shape) {
        if (size < 0 || (size > 0 && count > (int64_t{1} << 48) / size)) {
          throw Error(ErrorKind::Argument, "shape has a negative or too large size");
        }
        count *= size;
      }
      if (count != static_cast<int64_t>(length)) {
        throw Error(ErrorKind::Argument, "data has " + std::to_string(length) +
                                             " elements, the shape asks for " + std::to_string(count));
      }
      bool detached = false;
      napi_is_detached_arraybuffer(env, buffer, &detached);
      if (detached) throw Error(ErrorKind::Argument, "the buffer of data is detached");
      at::Tensor tensor;
      // Always a copy: JavaScript may detach the buffer (postMessage, structuredClone) or resize it at any
      // time, also while a native thread reads it, and Node-API cannot pin it.
      tensor = at::empty(shape, at::TensorOptions(stored));
      if (length > 0) std::memcpy(tensor.mutable_data_ptr(), data, tensor.nbytes());
      if (wanted && *wanted != stored) tensor = tensor.to(*wanted);
      return wrapTensor(env, tensor);
    });
  }

  static Napi::Value call(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      // Tensors become the slots of a graph of one node: eager calls take the executor's path.
      std::vector<at::Tensor> tensors;
      std::string name = readString(info[0], "op");
      ArgumentSpec args = readCallArguments(info[1], tensors);
      c10::NoGradGuard no_grad;
      std::vector<at::Tensor> results = callOperator(name, std::move(args.list), tensors);
      Napi::Array array = Napi::Array::New(env, results.size());
      for (size_t i = 0; i < results.size(); ++i) {
        array.Set(static_cast<uint32_t>(i), results[i].defined() ? wrapTensor(env, results[i]) : env.Null());
      }
      return array;
    });
  }

  static ArgumentSpec readCallArguments(Napi::Value value, std::vector<at::Tensor>& tensors) {
    ArgumentSpec spec;
    using Kind = ArgumentSpec::Kind;
    if (value.IsNull() || value.IsUndefined()) return spec;
    if (value.IsBoolean()) {
      spec.kind = Kind::Bool;
      spec.boolean = value.As<Napi::Boolean>();
    } else if (value.IsNumber()) {
      spec.kind = Kind::Number;
      spec.number = value.As<Napi::Number>();
    } else if (value.IsString()) {
      spec.kind = Kind::String;
      spec.string = value.As<Napi::String>();
    } else if (value.IsArray()) {
      spec.kind = Kind::List;
      Napi::Array array = value.As<Napi::Array>();
      for (uint32_t i = 0; i < array.Length(); ++i)
        spec.list.push_back(readCallArguments(array.Get(i), tensors));
    } else if (isTensor(value)) {
      spec.kind = Kind::Slot;
      spec.slot = static_cast<int>(tensors.size());
      tensors.push_back(unwrapTensor(value, "args"));
    } else {
      Options object(value, "args");
      spec.kind = Kind::DType;
      spec.dtype = parseDtype(object.string("dtype"), "args: dtype");
    }
    return spec;
  }

  at::Tensor tensor_;
  int64_t reported_ = 0;
  bool disposed_ = false;
};

void init(Napi::Env env, Napi::Object exports) {
  TensorHandle::init(env, exports);
}

}  // namespace

FORNAX_BINDING(init);

Napi::Value wrapTensor(Napi::Env env, at::Tensor tensor) {
  if (!tensor.defined()) throw Error(ErrorKind::Argument, "the result is not a tensor");
  if (tensor.layout() != at::kStrided) {
    throw Error(
        ErrorKind::Argument,
        std::string("a tensor of layout ") + c10::str(tensor.layout()) + " cannot be handed to JavaScript",
        "", "make it dense first");
  }
  auto external = Napi::External<at::Tensor>::New(env, &tensor);
  return Environment::of(env).constructors.at("Tensor").New({external});
}

bool isTensor(Napi::Value value) {
  if (!value.IsObject()) return false;
  bool result = false;
  napi_check_object_type_tag(value.Env(), value, &kTensorTag, &result);
  return result;
}

at::Tensor unwrapTensor(Napi::Value value, const std::string& what) {
  if (!isTensor(value)) throw Error(ErrorKind::Argument, what + " must be a Tensor");
  return TensorHandle::Unwrap(value.As<Napi::Object>())->tensor();
}

const char* dtypeName(c10::ScalarType type) {
  for (const auto& entry : kDtypes) {
    if (entry.type == type) return entry.name;
  }
  return c10::toString(type);
}

c10::ScalarType parseDtype(const std::string& name, const std::string& what) {
  std::string list;
  for (const auto& entry : kDtypes) {
    if (name == entry.name) return entry.type;
    list += (list.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw Error(ErrorKind::Argument, what + ": unknown dtype '" + name + "', expected one of " + list);
}

c10::Device parseDevice(const std::string& name) {
  if (name == "cpu") return c10::Device(c10::kCPU);
  if (name == "meta") return c10::Device(c10::kMeta);
  if (name == "cuda" || name.rfind("cuda:", 0) == 0) {
    if (!at::hasCUDA()) {
      throw Error(ErrorKind::Device, "device '" + name + "' is not available", "",
                  "run `fornax doctor` to see why CUDA cannot be used, or use the device 'cpu'");
    }
    try {
      c10::Device device(name == "cuda" ? "cuda:0" : name);
      int64_t count = static_cast<int64_t>(at::getNumGPUs());
      if (device.index() < count) {
        // Its allocator can be asked from here on, also before anything was computed.
        at::globalContext().lazyInitDevice(c10::kCUDA);
        return device;
      }
      throw Error(ErrorKind::Device,
                  "device '" + name + "' does not exist, there are " + std::to_string(count));
    } catch (const c10::Error&) {
    }
  }
  throw Error(ErrorKind::Device, "unknown device '" + name + "'", "", "use cpu, cuda or cuda:N");
}

c10::Device parseComputeDevice(const std::string& name) {
  const c10::Device device = parseDevice(name);
  if (!device.is_meta()) return device;
  throw Error(ErrorKind::Device, "nothing is computed on the device 'meta'", "", "use cpu, cuda or cuda:N");
}

}  // namespace fornax::bindings
