// A graph as it was handed over (src/graph/format.ts), before anything is resolved: plain data, nothing
// checked.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace fornax {

enum class ModeKind : uint8_t { Dropout, BatchNorm, StochasticDepth };
enum class Mode : int64_t { Eval = 0, Train = 1, Recompute = 2 };

// An integer expression over sizes: a tree.
struct SizeExpr {
  enum class Op : uint8_t { Constant, Size, Add, Sub, Mul, FloorDiv, Mod, Min, Max };
  Op op = Op::Constant;
  int64_t value = 0;  // Constant
  int slot = -1;      // Size
  int64_t dim = 0;    // Size; may be negative
  std::shared_ptr<const SizeExpr> left, right;
};

struct ArgumentSpec {
  enum class Kind : uint8_t { None, Bool, Number, String, Slot, Mode, Expr, DType, Generator, List };
  Kind kind = Kind::None;
  bool boolean = false;
  double number = 0;
  std::string string;
  int slot = -1;
  ModeKind mode = ModeKind::Dropout;
  c10::ScalarType dtype = c10::ScalarType::Float;
  std::shared_ptr<const SizeExpr> expr;
  std::vector<ArgumentSpec> list;
};

struct NodeSpec {
  std::string op;    // with overload: aten::add.Tensor
  std::string path;  // module path
  std::vector<ArgumentSpec> args;
  std::vector<int> outs;  // -1: result not used
};

struct InitSpec {
  enum class Kind : uint8_t {
    Constant,
    Values,
    Uniform,
    Normal,
    TruncNormal,
    KaimingUniform,
    KaimingNormal,
    XavierUniform,
    XavierNormal
  };
  Kind kind = Kind::Constant;
  double value = 0;                         // Constant
  std::vector<double> values;               // Values: every element, row-major
  double low = 0, high = 0;                 // Uniform
  double mean = 0, std = 1, a = -2, b = 2;  // Normal, TruncNormal
  double gain = 1;                          // Kaiming*, Xavier*
  bool fan_out = false;                     // Kaiming*
};

struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;
  c10::ScalarType dtype = c10::ScalarType::Float;
  bool trainable = true;  // parameter (true) or buffer
  int slot = -1;
  InitSpec init;
};

struct GuardSpec {
  enum class Compare : uint8_t { Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual };
  std::shared_ptr<const SizeExpr> left, right;
  Compare compare = Compare::Equal;
  std::string path;
};

struct PortSpec {
  std::string name;
  int slot = -1;
  int64_t rank = -1;       // of an input: required number of dimensions, or -1
  bool auxiliary = false;  // of an output: only training needs it
};

struct GraphSpec {
  int64_t format_version = 0;
  int slots = 0;
  std::vector<PortSpec> inputs, outputs;
  std::vector<ParameterSpec> parameters;
  std::vector<NodeSpec> nodes;
  std::vector<GuardSpec> guards;
};

}  // namespace fornax
