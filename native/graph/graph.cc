#include "graph/graph.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <limits>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "graph/allow_list.h"
#include "graph/argument.h"

namespace fornax {

namespace {

constexpr int64_t kFormatVersion = 1;
constexpr int kMaxSlots = 1 << 22;
constexpr int64_t kMaxElements = int64_t{1} << 40;

[[noreturn]] void fail(const std::string& what, const std::string& where, const std::string& fix = "") {
  throw Error(ErrorKind::Graph, what, where, fix);
}

std::string nodeName(const NodeSpec& node, size_t index) {
  return node.op + " at " + (node.path.empty() ? "the root" : node.path) + " (node " + std::to_string(index) +
         ")";
}

void checkSlot(int slot, int slots, const std::string& where) {
  if (slot < 0 || slot >= slots) {
    fail("slot " + std::to_string(slot) + " does not exist (the graph has " + std::to_string(slots) + ")",
         where);
  }
}

void checkShape(const ParameterSpec& parameter) {
  int64_t elements = 1;
  for (int64_t size : parameter.shape) {
    if (size < 0) fail("negative size in the shape", "parameter " + parameter.name);
    if (size > 0 && elements > kMaxElements / size) fail("shape is too large", "parameter " + parameter.name);
    elements *= size;
  }
}

c10::OperatorHandle findOperator(const std::string& name, const std::string& where) {
  size_t colons = name.find("::");
  if (colons == std::string::npos) fail("'" + name + "' is not an operator name (namespace::name)", where);
  size_t dot = name.find('.', colons);
  std::string base = name.substr(0, dot);
  std::string overload = dot == std::string::npos ? "" : name.substr(dot + 1);
  auto found = c10::Dispatcher::singleton().findSchema({base, overload});
  if (!found)
    fail("unknown operator '" + name + "'", where, "check the name and the overload (aten::add.Tensor)");
  return *found;
}

// Operators that change their arguments, or whose results share storage in ways a file must not control, are
// refused by their schema as well as by not being listed.
void checkAllowed(const c10::OperatorHandle& op, const std::string& name, const std::string& where) {
  bool writes = false;
  for (const auto& argument : op.schema().arguments()) {
    writes = writes || (argument.alias_info() != nullptr && argument.alias_info()->isWrite());
  }
  // Batch norm updates its own running statistics; nothing else may write.
  if (isAllowedInFiles(name) && (!writes || name == "fornax::batch_norm")) return;
  fail("operator '" + name + "' is not allowed in a model file", where,
       "model files may use functional operators only; load the model from its source instead");
}

// In a file, the mode of a node must be a flag of the run, and batch norm may write to the model's own
// buffers only: otherwise a file could change the caller's tensors, or the weights, during evaluation.
void checkModal(const NodeSpec& node, const std::vector<bool>& is_buffer, const std::string& where) {
  using Kind = ArgumentSpec::Kind;
  auto requireMode = [&](size_t position) {
    if (node.args.size() <= position || node.args[position].kind != Kind::Mode) {
      fail("in a model file the mode must be a mode flag", where);
    }
  };
  if (node.op == "fornax::dropout" || node.op == "fornax::feature_dropout") requireMode(2);
  if (node.op == "fornax::stochastic_depth") requireMode(3);
  if (node.op == "aten::scaled_dot_product_attention") {
    auto given = [&](size_t position) {
      return node.args.size() > position && (node.args[position].boolean || node.args[position].number != 0);
    };
    // Draws from the process's generator, and divides by the number of heads of the key, which may be 0.
    if (given(4)) fail("attention with dropout is not allowed in a model file", where);
    if (given(7)) fail("attention with enable_gqa is not allowed in a model file", where);
  }
  if (node.op != "fornax::batch_norm") return;
  requireMode(6);
  for (size_t i = 3; i < 6; ++i) {
    const ArgumentSpec& argument = node.args[i];
    bool buffer = argument.kind == Kind::Slot && argument.slot >= 0 &&
                  static_cast<size_t>(argument.slot) < is_buffer.size() && is_buffer[argument.slot];
    if (argument.kind != Kind::None && !buffer)
      fail("batch norm's statistics must be buffers of the model", where);
  }
}

// Results: any number of tensors, or one list of tensors.
bool checkResults(const c10::FunctionSchema& schema, const NodeSpec& node, const std::string& where) {
  const auto& returns = schema.returns();
  if (returns.size() == 1 && returns[0].type()->kind() == c10::TypeKind::ListType) {
    if (returns[0].type()->castRaw<c10::ListType>()->getElementType()->kind() != c10::TypeKind::TensorType) {
      fail("operator returns a list that does not hold tensors", where);
    }
    if (node.outs.empty()) fail("a list result needs at least one output slot", where);
    return true;
  }
  for (const auto& result : returns) {
    if (result.type()->kind() != c10::TypeKind::TensorType)
      fail("operator returns something else than tensors", where);
  }
  if (node.outs.size() != returns.size()) {
    fail("operator has " + std::to_string(returns.size()) + " results, the node names " +
             std::to_string(node.outs.size()) + " slots",
         where);
  }
  return false;
}

}  // namespace

void collectSlots(const std::shared_ptr<const SizeExpr>& expr, std::vector<int>& slots) {
  if (!expr) return;
  if (expr->op == SizeExpr::Op::Size) slots.push_back(expr->slot);
  collectSlots(expr->left, slots);
  collectSlots(expr->right, slots);
}

Graph::Graph(GraphSpec spec, bool trusted) : spec_(std::move(spec)) {
  if (spec_.format_version != kFormatVersion) {
    fail("graph format version " + std::to_string(spec_.format_version) +
             " is not supported (this build reads version " + std::to_string(kFormatVersion) + ")",
         "the graph", spec_.format_version > kFormatVersion ? "update fornax" : "");
  }
  if (spec_.slots < 0 || spec_.slots > kMaxSlots) fail("number of slots out of range", "the graph");
  if (spec_.outputs.empty()) fail("the graph has no output", "the graph");

  // `defined[s]`: node that writes slot s; kExternal for inputs and parameters; kUndefined before it is
  // written.
  constexpr int kUndefined = std::numeric_limits<int>::max();
  constexpr int kExternal = -1;
  std::vector<int> defined(spec_.slots, kUndefined);
  auto define = [&](int slot, int node, const std::string& where) {
    checkSlot(slot, spec_.slots, where);
    if (defined[slot] != kUndefined) fail("slot " + std::to_string(slot) + " is written twice", where);
    defined[slot] = node;
  };
  std::unordered_set<std::string> names;
  for (const auto& input : spec_.inputs) {
    if (!names.insert(input.name).second) fail("two inputs have the same name", "input " + input.name);
    define(input.slot, kExternal, "input " + input.name);
  }
  names.clear();
  std::vector<bool> is_parameter(spec_.slots, false);
  std::vector<bool> is_buffer(spec_.slots, false);
  for (const auto& parameter : spec_.parameters) {
    std::string where = "parameter " + parameter.name;
    if (parameter.name.empty()) fail("a parameter has no name", "the graph");
    if (!names.insert(parameter.name).second) fail("two parameters have the same name", where);
    define(parameter.slot, kExternal, where);
    checkShape(parameter);
    is_parameter[parameter.slot] = true;
    is_buffer[parameter.slot] = !parameter.trainable;
  }

  auto use = [&](int slot, const std::string& where) {
    checkSlot(slot, spec_.slots, where);
    if (defined[slot] == kUndefined) {
      fail("slot " + std::to_string(slot) + " is used before it is written", where,
           "nodes must stand in execution order; a cycle is not possible");
    }
  };

  constexpr int kAlways = std::numeric_limits<int>::max();
  std::vector<int> last_use(spec_.slots, -1);
  nodes_.reserve(spec_.nodes.size());
  for (size_t index = 0; index < spec_.nodes.size(); ++index) {
    const NodeSpec& source = spec_.nodes[index];
    std::string where = nodeName(source, index);
    c10::OperatorHandle op = findOperator(source.op, where);
    if (!trusted) {
      checkAllowed(op, source.op, where);
      checkModal(source, is_buffer, where);
    }
    Node node{op, source.op, source.path, {}, {}, source.outs, false, {}, {}, false, ModeKind::Dropout};
    const c10::FunctionSchema& schema = op.schema();
    bindArguments(schema, source, where, node);
    node.returns_list = checkResults(schema, source, where);
    for (const auto& argument : node.dynamic) {
      std::vector<int> used;
      for (int slot : argument.slots) {
        if (slot >= 0) used.push_back(slot);
      }
      for (const auto& expr : argument.exprs) collectSlots(expr, used);
      for (int slot : used) {
        use(slot, where);
        last_use[slot] = static_cast<int>(index);
      }
    }
    for (int slot : source.outs) {
      if (slot < 0) continue;
      define(slot, static_cast<int>(index), where);
      last_use[slot] = static_cast<int>(index);  // unless used later
    }
    nodes_.push_back(std::move(node));
  }

  bool only_auxiliary = true;
  for (const auto& output : spec_.outputs) {
    only_auxiliary = only_auxiliary && output.auxiliary;
    use(output.slot, "output " + output.name);
    last_use[output.slot] = kAlways;
  }
  if (only_auxiliary) fail("every output of the graph is auxiliary", "the graph");
  std::vector<bool> in_guard(spec_.slots, false);
  for (size_t i = 0; i < spec_.guards.size(); ++i) {
    std::string where = "guard at " + spec_.guards[i].path;
    std::vector<int> used;
    collectSlots(spec_.guards[i].left, used);
    collectSlots(spec_.guards[i].right, used);
    int ready = kExternal;
    for (int slot : used) {
      use(slot, where);
      ready = std::max(ready, defined[slot]);
    }
    for (int slot : used) {
      in_guard[slot] = true;
      if (last_use[slot] != kAlways) last_use[slot] = std::max(last_use[slot], ready);
    }
    (ready == kExternal ? initial_guards_ : nodes_[ready].guards).push_back(static_cast<int>(i));
  }

  // A slot's last use may take the tensor out of the frame; slots that a guard reads are released afterwards.
  for (size_t index = 0; index < nodes_.size(); ++index) {
    Node& node = nodes_[index];
    std::unordered_set<int> moved;
    for (auto argument = node.dynamic.rbegin(); argument != node.dynamic.rend(); ++argument) {
      argument->last_use.assign(argument->slots.size(), false);
      for (size_t i = argument->slots.size(); i-- > 0;) {
        int slot = argument->slots[i];
        if (slot < 0 || is_parameter[slot] || in_guard[slot] || last_use[slot] != static_cast<int>(index))
          continue;
        if (moved.insert(slot).second) argument->last_use[i] = true;
      }
    }
  }
  for (int slot = 0; slot < spec_.slots; ++slot) {
    if (is_parameter[slot] || last_use[slot] < 0 || last_use[slot] == kAlways) continue;
    nodes_[last_use[slot]].release.push_back(slot);
  }
}

int Graph::lastNodeOf(const std::string& path) const {
  for (size_t i = nodes_.size(); i-- > 0;) {
    const std::string& made_by = nodes_[i].path;
    bool below = made_by.size() > path.size() && made_by.compare(0, path.size(), path) == 0 &&
                 made_by[path.size()] == '.';
    if (path.empty() || made_by == path || below) return static_cast<int>(i);
  }
  return -1;
}

std::string Graph::describe(size_t node) const {
  return nodeName(spec_.nodes[node], node);
}

}  // namespace fornax
