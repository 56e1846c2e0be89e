#include "train/passes/precision.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"

namespace fornax {

namespace {

constexpr std::string_view kBatchNorm = "fornax::batch_norm";
constexpr std::string_view kAttention = "aten::scaled_dot_product_attention";

bool isProduct(const std::string& op) {
  static const std::unordered_set<std::string_view> names = {
      "aten::conv1d",
      "aten::conv2d",
      "aten::conv3d",
      "aten::conv1d.padding",
      "aten::conv2d.padding",
      "aten::conv3d.padding",
      "aten::convolution",
      "aten::conv_transpose1d",
      "aten::conv_transpose2d.input",
      "aten::conv_transpose3d.input",
      "aten::linear",
      "aten::matmul",
      "aten::mm",
      "aten::bmm",
      "aten::addmm",
      "aten::baddbmm",
      kAttention,
  };
  return names.count(op) > 0;
}

// What loses nothing that counts in bfloat16: values are moved, or each result is made of few of them, or of
// sums that libtorch keeps in float32. Everything that is not listed gets float32: softmax, layer norm,
// powers, exponentials, reductions, losses, as with libtorch's autocast.
bool followsInput(const std::string& op) {
  static const std::unordered_set<std::string_view> names = {
      // batch norm has its statistics, weights and sums in float32
      kBatchNorm,
      // activations
      "aten::relu",
      "aten::relu6",
      "aten::leaky_relu",
      "aten::silu",
      "aten::gelu",
      "aten::hardswish",
      "aten::hardsigmoid",
      "aten::hardtanh",
      "aten::sigmoid",
      "aten::tanh",
      "aten::elu",
      "aten::mish",
      "aten::neg",
      // arithmetic; a mixture becomes float32 by libtorch's promotion
      "aten::add.Tensor",
      "aten::sub.Tensor",
      "aten::mul.Tensor",
      "aten::add.Scalar",
      "aten::sub.Scalar",
      "aten::mul.Scalar",
      "aten::div.Scalar",
      "fornax::dropout",
      "fornax::feature_dropout",
      "fornax::stochastic_depth",
      // pooling and resizing
      "aten::max_pool2d",
      "aten::avg_pool2d",
      "aten::adaptive_avg_pool2d",
      "aten::upsample_nearest2d.vec",
      "aten::upsample_bilinear2d.vec",
      // values are moved
      "aten::alias",
      "aten::cat",
      "aten::channel_shuffle",
      "aten::chunk",
      "aten::clone",
      "aten::constant_pad_nd",
      "aten::contiguous",
      "aten::expand",
      "aten::flatten.using_ints",
      "aten::movedim.int",
      "aten::movedim.intlist",
      "aten::narrow",
      "aten::permute",
      "aten::pixel_shuffle",
      "aten::pixel_unshuffle",
      "aten::reshape",
      "aten::roll",
      "aten::select.int",
      "aten::slice.Tensor",
      "aten::split.Tensor",
      "aten::split_with_sizes",
      "aten::squeeze",
      "aten::squeeze.dim",
      "aten::squeeze.dims",
      "aten::stack",
      "aten::t",
      "aten::transpose.int",
      "aten::unbind.int",
      "aten::unflatten.int",
      "aten::unsqueeze",
      "aten::view",
  };
  return names.count(op) > 0;
}

bool writesToArguments(const Node& node) {
  if (node.name == kBatchNorm) return false;  // to its own statistics alone
  for (const auto& argument : node.op.schema().arguments()) {
    if (argument.alias_info() != nullptr && argument.alias_info()->isWrite()) return true;
  }
  return false;
}

bool given(const NodeSpec& node, size_t position) {
  return node.args.size() > position && node.args[position].kind != ArgumentSpec::Kind::None;
}

// Whether the precision of the node can be chosen. A mask of attention may be of booleans, which no cast must
// touch.
bool isChoosable(const NodeSpec& node) {
  return isProduct(node.op) && !(node.op == kAttention && given(node, 3));
}

void collectTensors(const ArgumentSpec& argument, std::vector<int>& slots) {
  if (argument.kind == ArgumentSpec::Kind::Slot) slots.push_back(argument.slot);
  for (const ArgumentSpec& item : argument.list) collectTensors(item, slots);
}

void replaceSlot(ArgumentSpec& argument, int slot, int by) {
  if (argument.kind == ArgumentSpec::Kind::Slot && argument.slot == slot) argument.slot = by;
  for (ArgumentSpec& item : argument.list) replaceSlot(item, slot, by);
}

NodeSpec castNode(const std::string& path, int from, c10::ScalarType dtype, int to) {
  NodeSpec node;
  node.op = "aten::to.dtype";
  node.path = path;
  ArgumentSpec tensor, type;
  tensor.kind = ArgumentSpec::Kind::Slot;
  tensor.slot = from;
  type.kind = ArgumentSpec::Kind::DType;
  type.dtype = dtype;
  node.args = {tensor, type};
  node.outs = {to};
  return node;
}

}  // namespace

std::vector<PrecisionNode> precisionNodes(const Graph& graph) {
  std::vector<PrecisionNode> nodes;
  std::unordered_map<std::string, int> seen;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const NodeSpec& node = graph.spec().nodes[i];
    if (!isChoosable(node)) continue;
    const int repeat = seen[node.path]++;
    nodes.push_back({i, repeat == 0 ? node.path : node.path + "#" + std::to_string(repeat)});
  }
  return nodes;
}

PrecisionFlow::Kind PrecisionFlow::kindOf(const Node& node, const NodeSpec& spec) {
  if (writesToArguments(node)) return Kind::Keeps;
  if (isChoosable(spec)) return Kind::Planned;
  return followsInput(spec.op) ? Kind::Follows : Kind::Float32;
}

PrecisionFlow::PrecisionFlow(const Graph& graph)
    : slots_(graph.spec().slots), is_parameter_(graph.spec().slots, false) {
  for (const ParameterSpec& parameter : graph.parameters()) is_parameter_[parameter.slot] = true;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const NodeSpec& spec = graph.spec().nodes[i];
    NodeFlow flow{kindOf(graph.nodes()[i], spec),
                  spec.op == "aten::mul.Tensor",
                  spec.op == "aten::adaptive_avg_pool2d",
                  {},
                  spec.outs};
    writes_ = writes_ || flow.kind == Kind::Keeps;
    const size_t read = spec.op == kBatchNorm ? std::min<size_t>(1, spec.args.size()) : spec.args.size();
    for (size_t k = 0; k < read; ++k) collectTensors(spec.args[k], flow.slots);
    nodes_.push_back(std::move(flow));
  }
  for (const PortSpec& output : graph.outputs()) outputs_.push_back(output.slot);
}

std::vector<PrecisionCast> PrecisionFlow::casts(const std::vector<bool>& bfloat16) const {
  std::vector<Held> held(slots_, Held::Other);
  // Which casts of a value there are by now.
  std::vector<unsigned char> cast(slots_, 0);
  std::vector<PrecisionCast> casts;
  const std::vector<std::optional<bool>> wanted = this->wanted(bfloat16);
  const auto require = [&](size_t node, int slot, bool to_bfloat16) {
    if (held[slot] == (to_bfloat16 ? Held::BFloat16 : Held::Other)) return;
    const unsigned char bit = to_bfloat16 ? 1 : 2;
    if ((cast[slot] & bit) != 0) return;
    casts.push_back({node, slot, to_bfloat16});
    cast[slot] |= bit;
  };
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const NodeFlow& node = nodes_[i];
    bool mixed = false, lower = false;
    for (int slot : node.slots) {
      mixed = mixed || held[slot] != Held::BFloat16;
      lower = lower || held[slot] != Held::Other;
    }
    Held result = Held::Other;
    if (wanted[i]) {
      for (int slot : node.slots) require(i, slot, *wanted[i]);
      if (*wanted[i]) result = Held::BFloat16;
    } else if (lower) {
      result = mixed || node.kind == Kind::Keeps ? Held::Either : Held::BFloat16;
    }
    for (int slot : node.outs) {
      if (slot >= 0) held[slot] = result;
    }
    // What was cast before a tensor changed in place is cast anew; weights change between steps only.
    if (!writes_) continue;
    for (size_t slot = 0; slot < slots_; ++slot) {
      if (!is_parameter_[slot]) cast[slot] = 0;
    }
  }
  for (int slot : outputs_) require(PrecisionCast::kOutput, slot, false);
  return casts;
}

// Nodes between that are better off in bfloat16: the products of squeeze-and-excitation (Hu et al. 2018),
// where only nodes in bfloat16 read them, and the means over the same values. Their factors are then cast
// where they come out of an activation, which costs nothing once that is fused, instead of the product.
std::vector<bool> PrecisionFlow::lowered(const std::vector<bool>& bfloat16) const {
  std::vector<bool> lower(nodes_.size(), false), shared(slots_, false), otherwise(slots_, false);
  for (int slot : outputs_) otherwise[slot] = true;
  for (size_t i = nodes_.size(); i-- > 0;) {
    const NodeFlow& node = nodes_[i];
    lower[i] = node.kind == Kind::Planned && bfloat16[i];
    if (node.kind == Kind::Follows && node.scales && !node.outs.empty() && node.outs[0] >= 0) {
      lower[i] = shared[node.outs[0]] && !otherwise[node.outs[0]];
    }
    for (int slot : node.slots) (lower[i] ? shared : otherwise)[slot] = true;
  }
  std::vector<bool> factor(slots_, false);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].scales || !lower[i]) continue;
    for (int slot : nodes_[i].slots) factor[slot] = true;
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const NodeFlow& node = nodes_[i];
    if (node.kind == Kind::Follows && node.pools && node.slots.size() == 1 && factor[node.slots[0]]) {
      lower[i] = true;
    }
  }
  return lower;
}

std::vector<std::optional<bool>> PrecisionFlow::wanted(const std::vector<bool>& bfloat16) const {
  const std::vector<bool> lower = lowered(bfloat16);
  std::vector<std::optional<bool>> wanted(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Kind kind = nodes_[i].kind;
    if (lower[i] || kind == Kind::Planned || kind == Kind::Float32) wanted[i] = lower[i];
  }
  return wanted;
}

std::shared_ptr<const Graph> applyPrecision(const std::shared_ptr<const Graph>& graph,
                                            const std::vector<std::string>& names) {
  if (names.empty()) return graph;
  std::vector<bool> bfloat16(graph->nodes().size(), false);
  std::unordered_map<std::string, size_t> index;
  for (const PrecisionNode& node : precisionNodes(*graph)) index.emplace(node.name, node.index);
  for (const std::string& name : names) {
    const auto found = index.find(name);
    if (found == index.end()) {
      throw Error(ErrorKind::Argument, "the model has no convolution or matrix product named `" + name + "`",
                  "precision.bf16", "precisionNodes() lists their names");
    }
    bfloat16[found->second] = true;
  }

  GraphSpec spec = graph->spec();
  // Those of a value that stay true for all later nodes: see PrecisionFlow::casts.
  std::map<std::pair<int, bool>, int> current;
  std::vector<NodeSpec> nodes;
  const PrecisionFlow flow(*graph);
  const std::vector<PrecisionCast> casts = flow.casts(bfloat16);
  const std::vector<std::optional<bool>> wanted = flow.wanted(bfloat16);
  size_t next = 0;
  const auto insertCasts = [&](size_t before, const std::string& path) {
    for (; next < casts.size() && casts[next].node == before; ++next) {
      const auto [node, slot, lower] = casts[next];
      nodes.push_back(castNode(path, slot, lower ? at::kBFloat16 : at::kFloat, spec.slots));
      current[{slot, lower}] = spec.slots++;
    }
  };
  for (size_t i = 0; i < spec.nodes.size(); ++i) {
    insertCasts(i, spec.nodes[i].path);
    NodeSpec& node = spec.nodes[i];
    if (wanted[i]) {
      std::vector<int> slots;
      for (const ArgumentSpec& argument : node.args) collectTensors(argument, slots);
      for (int slot : slots) {
        const auto found = current.find({slot, *wanted[i]});
        if (found == current.end()) continue;
        for (ArgumentSpec& argument : node.args) replaceSlot(argument, slot, found->second);
      }
    }
    nodes.push_back(std::move(node));
  }
  insertCasts(PrecisionCast::kOutput, "");
  for (PortSpec& output : spec.outputs) {
    const auto found = current.find({output.slot, false});
    if (found != current.end()) output.slot = found->second;
  }
  spec.nodes = std::move(nodes);
  return std::make_shared<const Graph>(std::move(spec), /*trusted=*/true);
}

}  // namespace fornax
