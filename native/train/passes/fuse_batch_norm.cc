#include "train/passes/fuse_batch_norm.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/kernels/batch_norm_act.h"
#include "train/passes/slot_uses.h"

namespace fornax {

namespace {

using Kind = ArgumentSpec::Kind;

constexpr size_t kBatchNormArguments = 9, kRunningMean = 3;

ArgumentSpec numberArgument(double value) {
  ArgumentSpec argument;
  argument.kind = Kind::Number;
  argument.number = value;
  return argument;
}

ArgumentSpec stringArgument(std::string value) {
  ArgumentSpec argument;
  argument.kind = Kind::String;
  argument.string = std::move(value);
  return argument;
}

struct Activated {
  std::string name;
  double low = 0, high = 0;
};

// A number at `position`, or the default where the node leaves it out.
std::optional<double> numberAt(const NodeSpec& node, size_t position, double otherwise) {
  if (position >= node.args.size()) return otherwise;
  if (node.args[position].kind != Kind::Number) return std::nullopt;
  return node.args[position].number;
}

std::optional<Activated> activationOf(const NodeSpec& node) {
  if (node.op == "aten::relu") return Activated{"relu"};
  if (node.op == "aten::relu6") return Activated{"clamp", 0, 6};
  if (node.op == "aten::silu") return Activated{"silu"};
  if (node.op == "aten::hardswish") return Activated{"hardswish"};
  if (node.op == "aten::hardtanh") {
    const auto low = numberAt(node, 1, -1), high = numberAt(node, 2, 1);
    if (low && high && *low < *high) return Activated{"clamp", *low, *high};
  }
  if (node.op == "aten::leaky_relu") {
    // A slope that is not positive would let the sign of the result say nothing about its argument's.
    const auto slope = numberAt(node, 1, 0.01);
    if (slope && *slope > 0) return Activated{"leaky_relu", *slope};
  }
  return std::nullopt;
}

bool isPlainAddition(const NodeSpec& node) {
  return node.op == "aten::add.Tensor" && node.args.size() >= 2 && node.args[0].kind == Kind::Slot &&
         node.args[1].kind == Kind::Slot && numberAt(node, 2, 1) == 1.0;
}

bool isBatchNorm(const NodeSpec& node) {
  return node.op == "fornax::batch_norm" && node.args.size() == kBatchNormArguments &&
         node.args[0].kind == Kind::Slot && node.outs.size() == 1;
}

// To another type and nothing else.
bool isConversion(const NodeSpec& node) {
  if (node.op != "aten::to.dtype" || node.args.size() < 2 || node.args[1].kind != Kind::DType) return false;
  const c10::ScalarType type = node.args[1].dtype;
  if (type != c10::ScalarType::Float && type != c10::ScalarType::BFloat16) return false;
  for (size_t i = 2; i < node.args.size(); ++i) {
    const ArgumentSpec& argument = node.args[i];
    if (argument.kind != Kind::None && !(argument.kind == Kind::Bool && !argument.boolean)) return false;
  }
  return true;
}

// As libtorch names operators that change an argument.
bool writesInPlace(const NodeSpec& node) {
  const std::string name = node.op.substr(0, node.op.find('.'));
  return !name.empty() && name.back() == '_';
}

// Whether both batch norms move the same running statistics: a module that is called twice.
bool shareStatistics(const NodeSpec& a, const NodeSpec& b) {
  if (!isBatchNorm(b) && b.op != kBatchNormAct) return false;
  const ArgumentSpec &of_a = a.args[kRunningMean], &of_b = b.args[kRunningMean];
  return of_a.kind == Kind::Slot && of_b.kind == Kind::Slot && of_a.slot == of_b.slot;
}

// A batch norm and what can be done in one go with it.
struct Chain {
  std::vector<int> nodes;
  std::optional<int> residual;  // a slot; then the second node is the addition
  Activated activation{"none"};
  std::optional<c10::ScalarType> type;
};

class Fusion {
 public:
  explicit Fusion(GraphSpec& spec) : spec_(spec), uses_(spec), taken_(spec.nodes.size(), false) {}

  bool run() {
    bool changed = false;
    // From the end: of two batch norms that are added, the later one takes the addition.
    for (size_t i = spec_.nodes.size(); i-- > 0;) {
      if (!isBatchNorm(spec_.nodes[i])) continue;
      replace(chainFrom(static_cast<int>(i)));
      changed = true;
    }
    std::vector<NodeSpec> kept;
    for (size_t i = 0; i < taken_.size(); ++i) {
      if (!taken_[i]) kept.push_back(std::move(spec_.nodes[i]));
    }
    spec_.nodes = std::move(kept);
    return changed;
  }

 private:
  // The node that alone reads what `node` writes; null if there is none left to take.
  const NodeSpec* next(int node, int& index) const {
    index = uses_.onlyReader(spec_.nodes[node].outs[0]);
    if (index < 0 || taken_[index] || spec_.nodes[index].outs.size() != 1) return nullptr;
    return &spec_.nodes[index];
  }

  bool readsFirst(const NodeSpec& node, int slot) const {
    return !node.args.empty() && node.args[0].kind == Kind::Slot && node.args[0].slot == slot;
  }

  // Whether nothing between minds that the batch norm is computed later, at `place`. Running statistics are
  // exponential averages: the order of those who move them counts.
  bool canMove(int batch_norm, int place) const {
    for (int i = batch_norm + 1; i < place; ++i) {
      const NodeSpec& between = spec_.nodes[i];
      if (taken_[i]) continue;
      if (writesInPlace(between) || shareStatistics(spec_.nodes[batch_norm], between)) return false;
    }
    return true;
  }

  Chain chainFrom(int batch_norm) const {
    Chain chain{{batch_norm}, std::nullopt, {"none"}, std::nullopt};
    int index = -1;
    const NodeSpec* node = next(batch_norm, index);
    if (node != nullptr && isPlainAddition(*node) && canMove(batch_norm, index)) {
      const int own = spec_.nodes[batch_norm].outs[0];
      chain.residual = node->args[node->args[0].slot == own ? 1 : 0].slot;
      chain.nodes.push_back(index);
      node = next(index, index);
    }
    if (node != nullptr) {
      const auto activation = activationOf(*node);
      const bool fits = activation && readsFirst(*node, spec_.nodes[chain.nodes.back()].outs[0]) &&
                        // Their derivatives cannot be told from the result.
                        !(chain.residual && (activation->name == "silu" || activation->name == "hardswish"));
      if (fits) {
        chain.activation = *activation;
        chain.nodes.push_back(index);
        node = next(index, index);
      }
    }
    if (node != nullptr && isConversion(*node) &&
        readsFirst(*node, spec_.nodes[chain.nodes.back()].outs[0])) {
      chain.type = node->args[1].dtype;
      chain.nodes.push_back(index);
    }
    return chain;
  }

  void replace(const Chain& chain) {
    NodeSpec node = std::move(spec_.nodes[chain.nodes.front()]);
    node.op = kBatchNormAct;
    ArgumentSpec residual, type;
    if (chain.residual) {
      residual.kind = Kind::Slot;
      residual.slot = *chain.residual;
    }
    if (chain.type) {
      type.kind = Kind::DType;
      type.dtype = *chain.type;
    }
    node.args.push_back(std::move(residual));
    node.args.push_back(stringArgument(chain.activation.name));
    node.args.push_back(numberArgument(chain.activation.low));
    node.args.push_back(numberArgument(chain.activation.high));
    node.args.push_back(std::move(type));
    // Where all that it reads is there.
    const int place = chain.nodes[chain.residual ? 1 : 0];
    if (chain.nodes.size() > 1) node.outs = spec_.nodes[chain.nodes.back()].outs;
    for (int member : chain.nodes) taken_[member] = true;
    taken_[place] = false;
    spec_.nodes[place] = std::move(node);
  }

  GraphSpec& spec_;
  SlotUses uses_;
  std::vector<bool> taken_;
};

}  // namespace

bool fuseBatchNorm(GraphSpec& spec) {
  return Fusion(spec).run();
}

}  // namespace fornax
