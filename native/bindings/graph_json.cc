// Reads the plain objects of src/graph/format.ts into specs. The object may come from a file: everything is
// checked for its form and bounded in depth; what it means is checked by Graph.
#include <cmath>

#include "bindings/graph_handle.h"
#include "bindings/options.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"

namespace fornax::bindings {

namespace {

constexpr int kMaxDepth = 64;

[[noreturn]] void fail(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::Graph, what, where);
}

int readSlot(Napi::Value value, const std::string& where) {
  if (!value.IsNumber()) fail("a slot must be an integer", where);
  double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number < (1 << 30)) || std::floor(number) != number)
    fail("a slot must be an integer", where);
  return static_cast<int>(number);
}

ModeKind readModeKind(const std::string& name, const std::string& where) {
  if (name == "dropout") return ModeKind::Dropout;
  if (name == "batch_norm") return ModeKind::BatchNorm;
  if (name == "stochastic_depth") return ModeKind::StochasticDepth;
  fail("unknown kind of mode '" + name + "'", where);
}

Mode readMode(const std::string& name, const std::string& where) {
  if (name == "eval") return Mode::Eval;
  if (name == "train") return Mode::Train;
  if (name == "recompute") return Mode::Recompute;
  throw Error(ErrorKind::Argument, where + " must be eval, train or recompute, got '" + name + "'");
}

std::shared_ptr<const SizeExpr> readExpr(Napi::Value value, const std::string& where, int depth) {
  if (depth > kMaxDepth) fail("size expression is nested too deeply", where);
  auto expr = std::make_shared<SizeExpr>();
  if (value.IsNumber()) {
    expr->value = readInteger(value, where + ": size expression");
    return expr;
  }
  if (!value.IsArray()) fail("a size expression must be a number or [op, ...]", where);
  Napi::Array array = value.As<Napi::Array>();
  if (array.Length() != 3 || !array.Get(0u).IsString()) fail("a size expression must be [op, a, b]", where);
  std::string op = array.Get(0u).As<Napi::String>();
  if (op == "size") {
    expr->op = SizeExpr::Op::Size;
    expr->slot = readSlot(array.Get(1u), where);
    expr->dim = readInteger(array.Get(2u), where + ": dimension");
    return expr;
  }
  static const std::pair<const char*, SizeExpr::Op> kOps[] = {
      {"+", SizeExpr::Op::Add},       {"-", SizeExpr::Op::Sub}, {"*", SizeExpr::Op::Mul},
      {"//", SizeExpr::Op::FloorDiv}, {"%", SizeExpr::Op::Mod}, {"min", SizeExpr::Op::Min},
      {"max", SizeExpr::Op::Max}};
  for (const auto& [symbol, code] : kOps) {
    if (op != symbol) continue;
    expr->op = code;
    expr->left = readExpr(array.Get(1u), where, depth + 1);
    expr->right = readExpr(array.Get(2u), where, depth + 1);
    return expr;
  }
  fail("unknown operation '" + op + "' in a size expression", where);
}

c10::ScalarType readDtype(Napi::Value value, const std::string& where) {
  if (!value.IsString()) fail("a dtype must be a string", where);
  try {
    return parseDtype(value.As<Napi::String>(), "dtype");
  } catch (const Error& error) {
    fail(error.what(), where);
  }
}

ArgumentSpec readArgument(Napi::Value value, const std::string& where, int depth) {
  if (depth > kMaxDepth) fail("argument is nested too deeply", where);
  ArgumentSpec spec;
  using Kind = ArgumentSpec::Kind;
  if (value.IsNull() || value.IsUndefined()) return spec;
  if (value.IsBoolean()) {
    spec.kind = Kind::Bool;
    spec.boolean = value.As<Napi::Boolean>();
    return spec;
  }
  if (value.IsNumber()) {
    spec.kind = Kind::Number;
    spec.number = value.As<Napi::Number>();
    return spec;
  }
  if (value.IsString()) {
    spec.kind = Kind::String;
    spec.string = value.As<Napi::String>();
    return spec;
  }
  if (value.IsArray()) {
    spec.kind = Kind::List;
    Napi::Array array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i)
      spec.list.push_back(readArgument(array.Get(i), where, depth + 1));
    return spec;
  }
  if (!value.IsObject()) fail("an argument has a type that graphs do not know", where);
  Napi::Object object = value.As<Napi::Object>();
  if (object.Has("slot")) {
    spec.kind = Kind::Slot;
    spec.slot = readSlot(object.Get("slot"), where);
  } else if (object.Has("mode")) {
    spec.kind = Kind::Mode;
    spec.mode = readModeKind(readString(object.Get("mode"), where + ": mode"), where);
  } else if (object.Has("expr")) {
    spec.kind = Kind::Expr;
    spec.expr = readExpr(object.Get("expr"), where, 0);
  } else if (object.Has("dtype")) {
    spec.kind = Kind::DType;
    spec.dtype = readDtype(object.Get("dtype"), where);
  } else if (object.Has("generator")) {
    spec.kind = Kind::Generator;
  } else {
    fail("an argument object must be one of {slot}, {mode}, {expr}, {dtype}, {generator}", where);
  }
  return spec;
}

InitSpec readInit(Napi::Value value, const std::string& where) {
  Options init(value, where + ": init");
  InitSpec spec;
  static const std::vector<std::string> kKinds = {"constant",       "values",         "uniform",
                                                  "normal",         "trunc_normal",   "kaiming_uniform",
                                                  "kaiming_normal", "xavier_uniform", "xavier_normal"};
  init.require("kind");
  spec.kind = static_cast<InitSpec::Kind>(init.choice("kind", kKinds, ""));
  switch (spec.kind) {
    case InitSpec::Kind::Constant:
      spec.value = init.number("value");
      break;
    case InitSpec::Kind::Values:
      init.require("values");
      spec.values = init.numbers("values");
      break;
    case InitSpec::Kind::Uniform:
      spec.low = init.number("low");
      spec.high = init.number("high");
      if (!(spec.low <= spec.high)) fail("uniform: low must not exceed high", where);
      break;
    case InitSpec::Kind::TruncNormal:
      spec.a = init.number("a");
      spec.b = init.number("b");
      if (!(spec.a <= spec.b)) fail("trunc_normal: a must not exceed b", where);
      [[fallthrough]];
    case InitSpec::Kind::Normal:
      spec.mean = init.number("mean");
      spec.std = init.number("std");
      if (!(spec.std >= 0)) fail("std must not be negative", where);
      break;
    default:
      spec.gain = init.number("gain");
      if (!(spec.gain >= 0)) fail("gain must not be negative", where);
      spec.fan_out = init.string("mode", "fan_in") == "fan_out";
  }
  return spec;
}

std::vector<PortSpec> readPorts(const Options& graph, const char* key) {
  std::vector<PortSpec> ports;
  Napi::Array array = readArray(graph.require(key), graph.name(key));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    Options port(array.Get(i), std::string("graph.") + key);
    ports.push_back({port.string("name"), readSlot(port.require("slot"), port.name("slot"))});
    if (port.has("rank")) ports.back().rank = port.integer("rank");
    ports.back().auxiliary = port.boolean("auxiliary", false);
  }
  return ports;
}

ParameterSpec readParameter(Napi::Value value) {
  Options source(value, "graph.parameters[]");
  ParameterSpec parameter;
  parameter.name = source.string("name");
  std::string where = "parameter " + parameter.name;
  parameter.shape = readIntegers(source.require("shape"), where + ": shape");
  parameter.dtype = readDtype(source.require("dtype"), where);
  parameter.trainable = source.choice("kind", {"parameter", "buffer"}, "parameter") == 0;
  if (parameter.trainable && !c10::isFloatingType(parameter.dtype))
    fail("a parameter must have a floating dtype", where);
  parameter.slot = readSlot(source.require("slot"), where);
  parameter.init = readInit(source.require("init"), where);
  return parameter;
}

NodeSpec readNode(Napi::Value value, uint32_t index) {
  Options source(value, "node " + std::to_string(index));
  NodeSpec node;
  node.op = source.string("op");
  node.path = source.string("path", "");
  std::string where = node.op + " at " + (node.path.empty() ? "the root" : node.path) + " (node " +
                      std::to_string(index) + ")";
  Napi::Array args = readArray(source.require("args"), source.name("args"));
  for (uint32_t i = 0; i < args.Length(); ++i) node.args.push_back(readArgument(args.Get(i), where, 0));
  Napi::Array outs = readArray(source.require("outs"), source.name("outs"));
  for (uint32_t i = 0; i < outs.Length(); ++i) {
    node.outs.push_back(outs.Get(i).IsNull() ? -1 : readSlot(outs.Get(i), where));
  }
  return node;
}

GuardSpec readGuard(Napi::Value value) {
  Options source(value, "graph.guards[]");
  GuardSpec guard;
  guard.path = source.string("path", "");
  std::string where = "guard at " + guard.path;
  guard.left = readExpr(source.require("left"), where, 0);
  guard.right = readExpr(source.require("right"), where, 0);
  source.require("compare");
  guard.compare =
      static_cast<GuardSpec::Compare>(source.choice("compare", {"==", "!=", "<", "<=", ">", ">="}, ""));
  return guard;
}

}  // namespace

GraphSpec readGraphSpec(Napi::Value value) {
  try {
    Options graph(value, "graph");
    GraphSpec spec;
    spec.format_version = graph.integer("format_version");
    int64_t slots = graph.integer("slots");
    if (slots < 0 || slots > (1 << 22)) fail("number of slots out of range", "the graph");
    spec.slots = static_cast<int>(slots);
    spec.inputs = readPorts(graph, "inputs");
    spec.outputs = readPorts(graph, "outputs");
    Napi::Array parameters = readArray(graph.require("parameters"), "graph.parameters");
    for (uint32_t i = 0; i < parameters.Length(); ++i)
      spec.parameters.push_back(readParameter(parameters.Get(i)));
    Napi::Array nodes = readArray(graph.require("nodes"), "graph.nodes");
    for (uint32_t i = 0; i < nodes.Length(); ++i) spec.nodes.push_back(readNode(nodes.Get(i), i));
    if (graph.has("guards")) {
      Napi::Array guards = readArray(graph.get("guards"), "graph.guards");
      for (uint32_t i = 0; i < guards.Length(); ++i) spec.guards.push_back(readGuard(guards.Get(i)));
    }
    return spec;
  } catch (const Error& error) {
    // A wrong form is a broken graph, not a wrong call.
    if (error.kind == ErrorKind::Argument)
      throw Error(ErrorKind::Graph, error.what(), error.where, error.fix);
    throw;
  }
}

Modes readModes(Napi::Value value, const std::string& what) {
  Options source(value, what);
  Modes modes;
  auto read = [&](const char* key, Mode fallback) {
    return source.has(key) ? readMode(source.string(key), source.name(key)) : fallback;
  };
  modes.dropout = read("dropout", Mode::Eval);
  modes.batch_norm = read("batch_norm", Mode::Eval);
  modes.stochastic_depth = read("stochastic_depth", Mode::Eval);
  if (source.has("overrides")) {
    Napi::Array overrides = readArray(source.get("overrides"), source.name("overrides"));
    for (uint32_t i = 0; i < overrides.Length(); ++i) {
      Options rule(overrides.Get(i), source.name("overrides"));
      Modes::Override parsed{rule.string("prefix"), std::nullopt,
                             readMode(rule.string("mode"), rule.name("mode"))};
      if (rule.has("kind")) parsed.kind = readModeKind(rule.string("kind"), rule.name("kind"));
      modes.overrides.push_back(std::move(parsed));
    }
  }
  return modes;
}

}  // namespace fornax::bindings
