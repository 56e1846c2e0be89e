#include "train/memory/forward_state.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/accumulate.h>

#include <cstring>
#include <map>
#include <unordered_map>
#include <unordered_set>

namespace fornax {

namespace {

bool isBatchNorm(const Node& node) {
  return node.modal && node.mode_kind == ModeKind::BatchNorm;
}

// Copies without the dispatcher, where it can be done: a model has a hundred such tensors of a few numbers
// each.
void copyAll(const std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from) {
  const c10::NoGradGuard no_grad;
  if (to.empty()) return;
  if (!to.front().is_cpu()) return at::_foreach_copy_(to, from, /*non_blocking=*/true);
  for (size_t i = 0; i < to.size(); ++i) {
    if (to[i].is_contiguous() && from[i].is_contiguous()) {
      if (to[i].nbytes() > 0) std::memcpy(to[i].mutable_data_ptr(), from[i].const_data_ptr(), to[i].nbytes());
    } else {
      to[i].copy_(from[i]);
    }
  }
}

}  // namespace

std::vector<size_t> writtenBuffers(const Graph& graph, const ModeTable& modes) {
  std::unordered_map<int, size_t> buffers;  // by slot
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    if (!graph.parameters()[i].trainable) buffers.emplace(graph.parameters()[i].slot, i);
  }
  std::vector<size_t> written;
  std::unordered_set<size_t> seen;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (isBatchNorm(node) && modes[n] == Mode::Eval) continue;
    const auto& schema = node.op.schema().arguments();
    for (const DynamicArgument& argument : node.dynamic) {
      const auto* alias = schema[argument.position].alias_info();
      // libtorch's own batch norms write to their statistics without saying so in the schema.
      if (!isBatchNorm(node) && !(alias && alias->isWrite())) continue;
      for (const int slot : argument.slots) {
        const auto found = buffers.find(slot);
        if (found != buffers.end() && seen.insert(found->second).second) written.push_back(found->second);
      }
    }
  }
  return written;
}

int64_t trainingBatchNorms(const Graph& graph, const ModeTable& modes) {
  int64_t count = 0;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (isBatchNorm(graph.nodes()[n]) && modes[n] == Mode::Train) ++count;
  }
  return count;
}

int64_t leastRowsOf(const Graph& graph, const ModeTable& modes, const std::vector<InputShape>& inputs) {
  if (trainingBatchNorms(graph, modes) == 0) return 1;
  const std::vector<NodeShapes> shapes = inferShapes(graph, inputs);
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (!isBatchNorm(graph.nodes()[n]) || modes[n] != Mode::Train || shapes[n].inputs.empty()) continue;
    const std::vector<int64_t>& x = shapes[n].inputs.front();
    if (x.size() >= 2 && c10::multiply_integers(x) == x[0] * x[1]) return 2;
  }
  return 1;
}

void ForwardState::save() {
  if (saved_.size() != buffers_.size()) {
    const c10::NoGradGuard no_grad;
    std::vector<at::Tensor> saved;
    for (const at::Tensor& buffer : buffers_) saved.push_back(at::empty_like(buffer));
    saved_ = std::move(saved);
  }
  generator_state_ = generator_.get_state();
  copyAll(saved_, buffers_);
}

void ForwardState::putBackBuffers() {
  copyAll(buffers_, saved_);
}

// All of a type at once: a model has a hundred of them.
void ForwardState::putBackBuffersWhere(const at::Tensor& flag) {
  const c10::NoGradGuard no_grad;
  struct Flat {
    std::vector<at::Tensor> now, before;
    std::vector<int64_t> sizes;
  };
  std::map<at::ScalarType, Flat> by_type;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    if (!buffers_[i].is_contiguous()) {
      buffers_[i].copy_(at::where(flag.ne(0), saved_[i], buffers_[i]));
      continue;
    }
    Flat& flat = by_type[buffers_[i].scalar_type()];
    flat.now.push_back(buffers_[i].view({-1}));
    flat.before.push_back(saved_[i].reshape({-1}));
    flat.sizes.push_back(buffers_[i].numel());
  }
  for (const auto& [type, flat] : by_type) {
    const at::Tensor chosen = at::where(flag.ne(0), at::cat(flat.before), at::cat(flat.now));
    at::_foreach_copy_(flat.now, chosen.split_with_sizes(flat.sizes));
  }
}

void ForwardState::putBack() {
  putBackBuffers();
  generator_.set_state(generator_state_);
}

}  // namespace fornax
