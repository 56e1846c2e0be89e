#include "graph/argument.h"

#include <ATen/core/List.h>
#include <ATen/core/jit_type.h>

#include <cmath>
#include <utility>

#include "core/error.h"

namespace fornax {

namespace {

using Kind = ArgumentSpec::Kind;
using Type = c10::TypeKind;

class Binder {
 public:
  Binder(Node& node, const std::string& where) : node_(node), where_(where) {}

  void bind(const c10::Argument& argument, const ArgumentSpec& spec, int position) {
    name_ = argument.name();
    position_ = position;
    node_.stack.push_back(value(argument.real_type(), spec, argument.N()));
  }

 private:
  [[noreturn]] void fail(const std::string& expected, const std::string& fix = "") const {
    throw Error(ErrorKind::Graph, "argument '" + name_ + "' must be " + expected, where_, fix);
  }

  DynamicArgument& dynamic(DynamicArgument::Kind kind) {
    node_.dynamic.push_back(DynamicArgument{kind, position_, {}, {}, {}});
    return node_.dynamic.back();
  }

  void setMode(ModeKind kind) {
    if (node_.modal && node_.mode_kind != kind)
      fail("of the same kind of mode as the node's other mode arguments");
    node_.modal = true;
    node_.mode_kind = kind;
  }

  int64_t integer(const ArgumentSpec& spec) const {
    if (spec.kind != Kind::Number || std::floor(spec.number) != spec.number ||
        std::abs(spec.number) > 9.1e18) {
      fail("an integer");
    }
    return static_cast<int64_t>(spec.number);
  }

  int64_t enumerator(const ArgumentSpec& spec, int64_t count) const {
    const int64_t value = integer(spec);
    if (value < 0 || value >= count) fail("an integer from 0 to " + std::to_string(count - 1));
    return value;
  }

  c10::Scalar scalar(const ArgumentSpec& spec) const {
    if (spec.kind == Kind::Bool) return c10::Scalar(spec.boolean);
    if (spec.kind != Kind::Number) fail("a number");
    // JSON does not tell 1 from 1.0: whole numbers are integers, as in Python source.
    if (std::floor(spec.number) == spec.number && std::abs(spec.number) < 9e15) {
      return c10::Scalar(static_cast<int64_t>(spec.number));
    }
    return c10::Scalar(spec.number);
  }

  c10::IValue value(const c10::TypePtr& type, const ArgumentSpec& spec, std::optional<int> fixed_length) {
    switch (type->kind()) {
      case Type::OptionalType: {
        const c10::TypePtr element = type->castRaw<c10::OptionalType>()->getElementType();
        if (spec.kind != Kind::None) return value(element, spec, fixed_length);
        if (element->kind() == Type::DeviceObjType) dynamic(DynamicArgument::Kind::Device);
        return c10::IValue();
      }
      case Type::TensorType:
        if (spec.kind != Kind::Slot) fail("a slot (a tensor)");
        dynamic(DynamicArgument::Kind::Slot).slots = {spec.slot};
        return c10::IValue();
      case Type::IntType:
      case Type::SymIntType:
        if (spec.kind == Kind::Expr) {
          dynamic(DynamicArgument::Kind::Expr).exprs = {spec.expr};
          return c10::IValue();
        }
        if (spec.kind == Kind::Mode) {
          setMode(spec.mode);
          dynamic(DynamicArgument::Kind::ModeInt);
          return c10::IValue();
        }
        if (spec.kind == Kind::DType) return c10::IValue(static_cast<int64_t>(spec.dtype));
        return c10::IValue(integer(spec));
      // libtorch reads past its tables where one of these is out of range.
      case Type::ScalarTypeType:
        if (spec.kind != Kind::DType) fail("a dtype");
        return c10::IValue(static_cast<int64_t>(spec.dtype));
      case Type::LayoutType:
        // Dense alone (0): nothing here is prepared for sparse tensors.
        return c10::IValue(enumerator(spec, static_cast<int64_t>(c10::Layout::Strided) + 1));
      case Type::MemoryFormatType:
        return c10::IValue(enumerator(spec, static_cast<int64_t>(c10::MemoryFormat::NumOptions)));
      case Type::FloatType:
        if (spec.kind != Kind::Number) fail("a number");
        return c10::IValue(spec.number);
      case Type::NumberType:
        if (spec.kind == Kind::Expr) {
          dynamic(DynamicArgument::Kind::Expr).exprs = {spec.expr};
          return c10::IValue();
        }
        return c10::IValue(scalar(spec));
      case Type::BoolType:
        if (spec.kind == Kind::Mode) {
          setMode(spec.mode);
          dynamic(DynamicArgument::Kind::ModeBool);
          return c10::IValue();
        }
        if (spec.kind != Kind::Bool) fail("a boolean");
        return c10::IValue(spec.boolean);
      case Type::StringType:
        if (spec.kind != Kind::String) fail("a string");
        return c10::IValue(spec.string);
      case Type::GeneratorType:
        if (spec.kind != Kind::Generator) fail("{generator: true}");
        dynamic(DynamicArgument::Kind::Generator);
        return c10::IValue();
      case Type::DeviceObjType:
        if (spec.kind != Kind::None) fail("null (the device of the session)");
        dynamic(DynamicArgument::Kind::Device);
        return c10::IValue();
      case Type::ListType:
        return list(type->castRaw<c10::ListType>()->getElementType(), spec, fixed_length);
      default:
        fail("of a type that graphs do not support (" + type->str() + ")");
    }
  }

  c10::IValue list(const c10::TypePtr& element, const ArgumentSpec& spec, std::optional<int> fixed_length) {
    const Type kind = element->kind();
    if (spec.kind != Kind::List) {
      // int[2] stride=1: one number stands for all.
      if (fixed_length && kind != Type::TensorType && kind != Type::OptionalType) {
        ArgumentSpec repeated;
        repeated.kind = Kind::List;
        repeated.list.assign(*fixed_length, spec);
        return list(element, repeated, fixed_length);
      }
      fail("a list");
    }
    if (kind == Type::TensorType || (kind == Type::OptionalType && isTensorOption(element))) {
      bool optional = kind == Type::OptionalType;
      auto& argument =
          dynamic(optional ? DynamicArgument::Kind::OptionalList : DynamicArgument::Kind::SlotList);
      for (const auto& item : spec.list) {
        if (item.kind == Kind::Slot) {
          argument.slots.push_back(item.slot);
        } else if (item.kind == Kind::None && optional) {
          argument.slots.push_back(-1);
        } else {
          fail("a list of slots");
        }
      }
      return c10::IValue();
    }
    switch (kind) {
      case Type::IntType:
      case Type::SymIntType:
        return integers(spec);
      case Type::FloatType: {
        c10::List<double> values;
        for (const auto& item : spec.list) {
          if (item.kind != Kind::Number) fail("a list of numbers");
          values.push_back(item.number);
        }
        return c10::IValue(std::move(values));
      }
      case Type::BoolType: {
        c10::List<bool> values;
        for (const auto& item : spec.list) {
          if (item.kind != Kind::Bool) fail("a list of booleans");
          values.push_back(item.boolean);
        }
        return c10::IValue(std::move(values));
      }
      case Type::NumberType: {
        c10::impl::GenericList values(c10::NumberType::get());
        for (const auto& item : spec.list) values.push_back(c10::IValue(scalar(item)));
        return c10::IValue(std::move(values));
      }
      case Type::OptionalType: {
        c10::impl::GenericList values(element);
        for (const auto& item : spec.list) {
          values.push_back(item.kind == Kind::None ? c10::IValue() : c10::IValue(scalar(item)));
        }
        return c10::IValue(std::move(values));
      }
      default:
        fail("of a type that graphs do not support (a list of " + element->str() + ")");
    }
  }

  c10::IValue integers(const ArgumentSpec& spec) {
    bool constant = true;
    for (const auto& item : spec.list) constant = constant && item.kind != Kind::Expr;
    if (constant) {
      c10::List<int64_t> values;
      for (const auto& item : spec.list) values.push_back(integer(item));
      return c10::IValue(std::move(values));
    }
    auto& argument = dynamic(DynamicArgument::Kind::IntList);
    for (const auto& item : spec.list) {
      if (item.kind == Kind::Expr) {
        argument.exprs.push_back(item.expr);
      } else {
        auto expr = std::make_shared<SizeExpr>();
        expr->value = integer(item);
        argument.exprs.push_back(std::move(expr));
      }
    }
    return c10::IValue();
  }

  static bool isTensorOption(const c10::TypePtr& type) {
    return type->castRaw<c10::OptionalType>()->getElementType()->kind() == Type::TensorType;
  }

  Node& node_;
  const std::string& where_;
  std::string name_;
  int position_ = 0;
};

}  // namespace

void bindArguments(const c10::FunctionSchema& schema, const NodeSpec& source, const std::string& where,
                   Node& node) {
  const auto& arguments = schema.arguments();
  if (source.args.size() > arguments.size()) {
    throw Error(ErrorKind::Graph,
                "operator takes " + std::to_string(arguments.size()) + " arguments, the node gives " +
                    std::to_string(source.args.size()),
                where);
  }
  Binder binder(node, where);
  const ArgumentSpec none;
  for (size_t i = 0; i < arguments.size(); ++i) {
    int position = static_cast<int>(i);
    if (i < source.args.size()) {
      binder.bind(arguments[i], source.args[i], position);
    } else if (arguments[i].default_value() && !arguments[i].default_value()->isNone()) {
      node.stack.push_back(*arguments[i].default_value());
    } else if (arguments[i].default_value() || arguments[i].type()->kind() == Type::OptionalType) {
      binder.bind(arguments[i], none, position);
    } else {
      throw Error(ErrorKind::Graph, "argument '" + arguments[i].name() + "' is missing", where);
    }
  }
}

}  // namespace fornax
