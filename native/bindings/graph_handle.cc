#include "bindings/graph_handle.h"

#include <ATen/ATen.h>

#include <utility>

#include "bindings/environment.h"
#include "bindings/io_pool.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "bindings/tensor_ranges.h"
#include "core/error.h"
#include "graph/call.h"
#include "graph/init.h"
#include "graph/load_state.h"
#include "graph/shapes.h"

#include <ATen/CPUGeneratorImpl.h>

namespace fornax::bindings {

namespace {

constexpr napi_type_tag kGraphTag = {0x6f726e6178677266ULL, 0x1c22b5d0a4f3e901ULL};

Napi::Array toArray(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) array.Set(static_cast<uint32_t>(i), values[i]);
  return array;
}

Napi::Array toArray(Napi::Env env, const std::vector<std::vector<int64_t>>& shapes) {
  Napi::Array array = Napi::Array::New(env, shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    Napi::Array shape = Napi::Array::New(env, shapes[i].size());
    for (size_t d = 0; d < shapes[i].size(); ++d)
      shape.Set(static_cast<uint32_t>(d), static_cast<double>(shapes[i][d]));
    array.Set(static_cast<uint32_t>(i), shape);
  }
  return array;
}

Napi::Object toObject(Napi::Env env, const LoadReport& report) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("missing", toArray(env, report.missing));
  result.Set("unexpected", toArray(env, report.unexpected));
  result.Set("mismatched", toArray(env, report.mismatched));
  return result;
}

uint64_t readSeed(Napi::Value value, const std::string& what) {
  int64_t seed = readInteger(value, what);
  if (seed < 0) throw Error(ErrorKind::Argument, what + " must not be negative");
  return static_cast<uint64_t>(seed);
}

class GraphHandle : public Napi::ObjectWrap<GraphHandle> {
 public:
  static void init(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor = DefineClass(env, "Graph",
                                             {
                                                 InstanceAccessor<&GraphHandle::isDisposed>("disposed"),
                                                 InstanceMethod<&GraphHandle::dispose>("dispose"),
                                                 InstanceMethod<&GraphHandle::initialize>("initialize"),
                                                 InstanceMethod<&GraphHandle::state>("state"),
                                                 InstanceMethod<&GraphHandle::load>("loadState"),
                                                 InstanceMethod<&GraphHandle::loadFile>("loadFile"),
                                                 InstanceMethod<&GraphHandle::infer>("inferShapes"),
                                                 InstanceMethod<&GraphHandle::replace>("replaceGraph"),
                                             });
    exports.Set("Graph", constructor);
    Environment::of(env).constructors["Graph"] = Napi::Persistent(constructor);
  }

  explicit GraphHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GraphHandle>(info) {
    napi_type_tag_object(info.Env(), info.This(), &kGraphTag);
    guarded(info.Env(), [&] {
      Options options(info[1], "options");
      trusted_ = options.boolean("trusted", false);
      auto model = std::make_shared<Model>();
      model->graph = std::make_shared<const Graph>(readGraphSpec(info[0]), trusted_);
      model->state = std::make_shared<State>(model->graph->parameters());
      model_ = std::move(model);
      size_t bytes = 0;
      for (const auto& tensor : model_->state->tensors()) bytes += tensor.nbytes();
      reported_ = static_cast<int64_t>(bytes);
      reportMemory(info.Env(), reported_);
    });
  }

  void Finalize(Napi::Env env) override { release(env); }

  const std::shared_ptr<Model>& model() const {
    if (!model_) throw Error(ErrorKind::Disposed, "the graph was disposed");
    return model_;
  }

 private:
  void release(Napi::Env env) {
    if (!model_) return;
    model_.reset();
    reportMemory(env, -reported_);
  }

  void dispose(const Napi::CallbackInfo& info) { release(info.Env()); }
  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !model_); }

  void initialize(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model()->state->initialize(readSeed(info[0], "seed")); });
  }

  Napi::Value state(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const State& state = *model()->state;
      Napi::Array array = Napi::Array::New(env, state.size());
      for (size_t i = 0; i < state.size(); ++i) {
        Napi::Object entry = Napi::Object::New(env);
        entry.Set("name", state.specs()[i].name);
        entry.Set("kind", state.specs()[i].trainable ? "parameter" : "buffer");
        entry.Set("tensor", wrapTensor(env, state.at(i).detach()));
        array.Set(static_cast<uint32_t>(i), entry);
      }
      return array;
    });
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      Napi::Object entries = readObject(info[0], "entries");
      Options options(info.Length() > 1 ? info[1] : env.Undefined(), "options");
      std::vector<std::pair<std::string, at::Tensor>> tensors;
      Napi::Array names = entries.GetPropertyNames();
      for (uint32_t i = 0; i < names.Length(); ++i) {
        std::string name = names.Get(i).As<Napi::String>();
        tensors.emplace_back(name, unwrapTensor(entries.Get(name), "entries['" + name + "']"));
      }
      return toObject(env, loadState(*model()->state, tensors, options.boolean("strict", true)));
    });
  }

  Napi::Value loadFile(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      std::string path = readString(info[0], "path");
      std::vector<TensorRange> ranges = readRanges(info[1], "tensors");
      Options options(info.Length() > 2 ? info[2] : env.Undefined(), "options");
      bool strict = options.boolean("strict", true);
      std::shared_ptr<State> state = model()->state;
      auto promise = Promise::create(env);
      runOnIoThread(env, promise, [promise, state, path, ranges = std::move(ranges), strict] {
        LoadReport report = loadStateFromFile(*state, path, ranges, strict);
        promise->resolve([report](Napi::Env env) -> Napi::Value { return toObject(env, report); });
      });
      return promise->value();
    });
  }

  Napi::Value infer(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      std::vector<InputShape> inputs;
      Napi::Array given = readArray(info[0], "inputs");
      for (uint32_t i = 0; i < given.Length(); ++i) {
        Options input(given.Get(i), "inputs[" + std::to_string(i) + "]");
        inputs.push_back({readIntegers(input.require("shape"), input.name("shape")),
                          parseDtype(input.string("dtype", "float32"), input.name("dtype"))});
      }
      std::shared_ptr<const Graph> graph = model()->graph;
      std::vector<NodeShapes> shapes = inferShapes(*graph, inputs);
      Napi::Array result = Napi::Array::New(env, shapes.size());
      for (size_t i = 0; i < shapes.size(); ++i) {
        Napi::Object node = Napi::Object::New(env);
        node.Set("op", graph->nodes()[i].name);
        node.Set("path", graph->nodes()[i].path);
        node.Set("inputs", toArray(env, shapes[i].inputs));
        node.Set("outputs", toArray(env, shapes[i].outputs));
        std::vector<std::string> dtypes;
        for (c10::ScalarType dtype : shapes[i].dtypes) dtypes.push_back(dtypeName(dtype));
        node.Set("dtypes", toArray(env, dtypes));
        result.Set(static_cast<uint32_t>(i), node);
      }
      return result;
    });
  }

  void replace(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      auto graph = std::make_shared<const Graph>(readGraphSpec(info[0]), trusted_);
      const auto& before = model()->graph->parameters();
      const auto& after = graph->parameters();
      bool equal = before.size() == after.size();
      for (size_t i = 0; equal && i < before.size(); ++i) {
        equal = before[i].name == after[i].name && before[i].shape == after[i].shape &&
                before[i].dtype == after[i].dtype && before[i].trainable == after[i].trainable;
      }
      if (!equal) {
        throw Error(ErrorKind::Graph, "the new trace has other parameters than the model", "",
                    "the parameters of a module must not depend on the input's size");
      }
      model()->graph = std::move(graph);
    });
  }

  std::shared_ptr<Model> model_;
  bool trusted_ = false;
  int64_t reported_ = 0;
};

Napi::Value drawInitTensor(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    // The same reader and the same drawing as for a graph with this one parameter.
    Napi::Object parameter = Napi::Object::New(env);
    parameter.Set("name", "drawn");
    parameter.Set("shape", info[1]);
    parameter.Set("dtype", info[2]);
    parameter.Set("kind", "parameter");
    parameter.Set("slot", 0);
    parameter.Set("init", info[0]);
    Napi::Object graph = Napi::Object::New(env);
    Napi::Array parameters = Napi::Array::New(env, 1);
    parameters.Set(0u, parameter);
    graph.Set("format_version", 1);
    graph.Set("slots", 1);
    graph.Set("inputs", Napi::Array::New(env));
    graph.Set("outputs", Napi::Array::New(env));
    graph.Set("parameters", parameters);
    graph.Set("nodes", Napi::Array::New(env));
    State state(readGraphSpec(graph).parameters);
    state.initialize(readSeed(info[3], "seed"));
    return wrapTensor(env, state.at(0));
  });
}

Napi::Value operatorSchema(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    OperatorSchema schema;
    if (!findOperatorSchema(readString(info[0], "op"), schema)) return env.Null();
    Napi::Object result = Napi::Object::New(env);
    result.Set("name", schema.name);
    Napi::Array arguments = Napi::Array::New(env, schema.arguments.size());
    for (size_t i = 0; i < schema.arguments.size(); ++i) {
      const auto& source = schema.arguments[i];
      Napi::Object argument = Napi::Object::New(env);
      argument.Set("name", source.name);
      argument.Set("type", source.type);
      argument.Set("optional", source.optional);
      argument.Set("default",
                   source.default_value.empty() ? env.Null() : Napi::String::New(env, source.default_value));
      arguments.Set(static_cast<uint32_t>(i), argument);
    }
    result.Set("arguments", arguments);
    result.Set("returns", toArray(env, schema.returns));
    return result;
  });
}

void init(Napi::Env env, Napi::Object exports) {
  GraphHandle::init(env, exports);
  exports.Set("drawInit", Napi::Function::New(env, drawInitTensor, "drawInit"));
  exports.Set("operatorSchema", Napi::Function::New(env, operatorSchema, "operatorSchema"));
}

}  // namespace

FORNAX_BINDING(init);

std::shared_ptr<Model> unwrapGraph(Napi::Value value, const std::string& what) {
  bool tagged = false;
  if (value.IsObject()) napi_check_object_type_tag(value.Env(), value, &kGraphTag, &tagged);
  if (!tagged) throw Error(ErrorKind::Argument, what + " must be a Graph");
  return GraphHandle::Unwrap(value.As<Napi::Object>())->model();
}

}  // namespace fornax::bindings
