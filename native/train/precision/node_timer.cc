#include "train/precision/node_timer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <sstream>

#include "core/error.h"

namespace fornax {

namespace {

// After one that fills caches and compiles kernels. The fastest counts: whatever else the machine does only
// makes it slower. Short calls are repeated more often: they suffer most from it.
constexpr int kFewestRuns = 3, kMostRuns = 40;
constexpr double kEnough = 0.03;  // seconds
constexpr double kTooLong = 0.5;  // seconds, from which on a single run says enough, also the first one
constexpr int64_t kCastElements = 1 << 20;
constexpr int kCastRuns = 12;

std::string keyOf(const TimedCall& call) {
  std::ostringstream key;
  key << call.in_float32.schema().operator_name() << call.in_bfloat16.schema().operator_name();
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    const c10::IValue& argument = call.arguments[i];
    key << '|';
    if (argument.isTensor() && argument.toTensor().defined()) {
      key << argument.toTensor().sizes() << call.is_weight[i] << call.needs_gradient[i];
    } else if (!argument.isTensor()) {
      key << argument;
    }
  }
  return key.str();
}

}  // namespace

double threadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

at::Tensor NodeTimer::noise(at::IntArrayRef shape) const {
  // Not drawn from the process's generator: others may depend on its state.
  at::Tensor values = at::linspace(-1, 1, c10::multiply_integers(shape), at::kFloat).view(shape);
  const bool channels_last = channels_last_ && values.dim() == 4;
  return values.contiguous(channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

double NodeTimer::once(const TimedCall& call, const std::vector<at::Tensor>& leaves, bool bfloat16,
                       at::Tensor& gradient) const {
  if (stop_ != nullptr && *stop_) throw Error(ErrorKind::Aborted, "the measurement was stopped");
  const double start = threadSeconds();
  std::vector<c10::IValue> stack = call.arguments;
  bool differentiable = false;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].defined()) continue;
    differentiable = differentiable || leaves[i].requires_grad();
    stack[i] = bfloat16 ? leaves[i].to(at::kBFloat16) : leaves[i];
  }
  (bfloat16 ? call.in_bfloat16 : call.in_float32).callBoxed(stack);
  if (differentiable) {
    const at::Tensor result = stack[0].toTensor();
    if (!gradient.defined()) gradient = at::ones_like(result);
    result.backward(gradient);
  }
  stack.clear();
  const double seconds = threadSeconds() - start;
  for (const at::Tensor& leaf : leaves) {
    if (leaf.defined()) leaf.mutable_grad().reset();
  }
  return seconds;
}

std::optional<CallSeconds> NodeTimer::time(const TimedCall& call) {
  const std::string key = keyOf(call);
  if (const auto known = known_.find(key); known != known_.end()) return known->second;
  const c10::AutoGradMode grad_mode(true);
  std::optional<CallSeconds>& result = known_[key];
  // Activations are in the precision of the call by then; weights are cast as part of it.
  std::vector<at::Tensor> full(call.arguments.size()), lower(call.arguments.size());
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    if (!call.arguments[i].isTensor() || !call.arguments[i].toTensor().defined()) continue;
    full[i] = noise(call.arguments[i].toTensor().sizes());
    lower[i] = call.is_weight[i] ? full[i] : full[i].to(at::kBFloat16);
    full[i].set_requires_grad(call.needs_gradient[i]);
    lower[i].set_requires_grad(call.needs_gradient[i]);
  }
  try {
    CallSeconds best{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    at::Tensor full_gradient, lower_gradient;
    double spent = 0;
    for (int run = 0; run <= kFewestRuns || (run <= kMostRuns && spent < kEnough); ++run) {
      const double in_float32 = once(call, full, false, full_gradient);
      const double in_bfloat16 = once(call, lower, true, lower_gradient);
      if (run == 0 && in_float32 + in_bfloat16 < kTooLong) continue;
      best.float32 = std::min(best.float32, in_float32);
      best.bfloat16 = std::min(best.bfloat16, in_bfloat16);
      spent += in_float32 + in_bfloat16;
      if (spent >= kTooLong) break;
    }
    result = best;
  } catch (const c10::Error&) {
    // No kernel for it: it stays in float32.
  }
  return result;
}

double NodeTimer::secondsPerCastElement() {
  if (cast_) return *cast_;
  const c10::AutoGradMode grad_mode(true);
  at::Tensor values = noise({kCastElements}).set_requires_grad(true);
  const at::Tensor gradient = at::ones({kCastElements}, at::kBFloat16);
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run <= kCastRuns; ++run) {
    const double start = threadSeconds();
    values.to(at::kBFloat16).backward(gradient);
    const double seconds = threadSeconds() - start;
    values.mutable_grad().reset();
    if (run > 0) best = std::min(best, seconds);
  }
  cast_ = best / static_cast<double>(kCastElements);
  return *cast_;
}

double multiplications(const std::string& op, const std::vector<c10::IValue>& arguments,
                       const at::Tensor& result) {
  std::vector<at::Tensor> tensors;
  for (const c10::IValue& argument : arguments) {
    if (argument.isTensor() && argument.toTensor().defined()) tensors.push_back(argument.toTensor());
  }
  if (tensors.size() < 2 || !result.defined()) return 0;
  const auto count = [](const at::Tensor& tensor) { return static_cast<double>(tensor.numel()); };
  const auto perFirst = [&](const at::Tensor& weight) {
    return weight.dim() == 0 || weight.size(0) == 0 ? 0 : count(weight) / static_cast<double>(weight.size(0));
  };
  if (op.rfind("aten::conv_transpose", 0) == 0) return count(tensors[0]) * perFirst(tensors[1]);
  if (op.rfind("aten::conv", 0) == 0) return count(result) * perFirst(tensors[1]);
  if (op == "aten::scaled_dot_product_attention") {
    return 2 * count(tensors[0]) * static_cast<double>(tensors[1].size(-2));
  }
  // A row of the first factor for each element; that of addmm and baddbmm is the second argument.
  const bool added = op == "aten::addmm" || op == "aten::baddbmm";
  const at::Tensor& factor = tensors[added ? 1 : 0];
  return factor.dim() == 0 ? 0 : count(result) * static_cast<double>(factor.size(-1));
}

}  // namespace fornax
