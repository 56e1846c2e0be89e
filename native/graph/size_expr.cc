#include "graph/size_expr.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <sstream>

#include "core/error.h"

namespace fornax {

namespace {

int64_t floorDivide(int64_t a, int64_t b) {
  int64_t quotient = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? quotient - 1 : quotient;
}

void print(std::ostream& out, const SizeExpr& expr) {
  static const char* const kSymbols[] = {"", "", "+", "-", "*", "//", "%", "min", "max"};
  if (expr.op == SizeExpr::Op::Constant) {
    out << expr.value;
  } else if (expr.op == SizeExpr::Op::Size) {
    out << "size(slot " << expr.slot << ", " << expr.dim << ")";
  } else {
    out << "(";
    print(out, *expr.left);
    out << " " << kSymbols[static_cast<int>(expr.op)] << " ";
    print(out, *expr.right);
    out << ")";
  }
}

}  // namespace

int64_t evaluateSize(const SizeExpr& expr, const std::vector<at::Tensor>& slots) {
  switch (expr.op) {
    case SizeExpr::Op::Constant:
      return expr.value;
    case SizeExpr::Op::Size: {
      const at::Tensor& tensor = slots[expr.slot];
      TORCH_CHECK(tensor.defined(), "size of a tensor that was not computed");
      return tensor.size(expr.dim);
    }
    default:
      break;
  }
  int64_t left = evaluateSize(*expr.left, slots);
  int64_t right = evaluateSize(*expr.right, slots);
  int64_t result = 0;
  bool overflow = false;
  switch (expr.op) {
    case SizeExpr::Op::Add:
      overflow = __builtin_add_overflow(left, right, &result);
      break;
    case SizeExpr::Op::Sub:
      overflow = __builtin_sub_overflow(left, right, &result);
      break;
    case SizeExpr::Op::Mul:
      overflow = __builtin_mul_overflow(left, right, &result);
      break;
    case SizeExpr::Op::FloorDiv:
    case SizeExpr::Op::Mod:
      TORCH_CHECK(right != 0, "division by zero in a size expression");
      overflow = right == -1 && left == INT64_MIN;
      if (!overflow) {
        result = expr.op == SizeExpr::Op::FloorDiv ? floorDivide(left, right)
                                                   : left - floorDivide(left, right) * right;
      }
      break;
    case SizeExpr::Op::Min:
      result = std::min(left, right);
      break;
    case SizeExpr::Op::Max:
      result = std::max(left, right);
      break;
    default:
      break;
  }
  TORCH_CHECK(!overflow, "overflow in a size expression");
  return result;
}

void checkGuard(const GuardSpec& guard, const std::vector<at::Tensor>& slots) {
  static const char* const kSymbols[] = {"==", "!=", "<", "<=", ">", ">="};
  int64_t left = evaluateSize(*guard.left, slots);
  int64_t right = evaluateSize(*guard.right, slots);
  bool holds = false;
  switch (guard.compare) {
    case GuardSpec::Compare::Equal:
      holds = left == right;
      break;
    case GuardSpec::Compare::NotEqual:
      holds = left != right;
      break;
    case GuardSpec::Compare::Less:
      holds = left < right;
      break;
    case GuardSpec::Compare::LessEqual:
      holds = left <= right;
      break;
    case GuardSpec::Compare::Greater:
      holds = left > right;
      break;
    case GuardSpec::Compare::GreaterEqual:
      holds = left >= right;
      break;
  }
  if (holds) return;
  std::ostringstream what;
  what << "the input's size does not fit the traced graph: it was traced with ";
  print(what, *guard.left);
  what << " " << kSymbols[static_cast<int>(guard.compare)] << " ";
  print(what, *guard.right);
  what << ", here " << left << " and " << right;
  throw Error(ErrorKind::Guard, what.str(), guard.path.empty() ? "the root module" : "module " + guard.path,
              "use the resolution the model was traced with, or trace it again from its source");
}

}  // namespace fornax
