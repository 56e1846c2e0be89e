#include "train/precision/step_timer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/generator.h"
#include "device/cpu_allocator.h"
#include "graph/executor.h"
#include "graph/prune.h"
#include "train/passes/precision.h"
#include "train/precision/stopwatch.h"
#include "train/prepare_graph.h"

namespace fornax {

namespace {

constexpr double kLongest = 6;  // seconds of computing; there is one round at least
constexpr int kRounds = 2;
// Of a plan in a round, after a run that fills caches. Short steps suffer most from what else the machine
// does: they are repeated for so many seconds.
constexpr int kFewestStepRuns = 2, kMostStepRuns = 25;
constexpr double kEnoughOfSteps = 0.03;

}  // namespace

StepSeconds StepTimer::time(const std::vector<std::vector<std::string>>& plans) {
  std::vector<std::shared_ptr<const Graph>> graphs = {prepared({})};
  for (const std::vector<std::string>& plan : plans) graphs.push_back(prepared(plan));
  std::vector<double> best(graphs.size(), std::numeric_limits<double>::infinity());
  const std::vector<at::Tensor> parameters = copyParameters();
  const std::vector<at::Tensor> inputs = makeInputs();
  const Stopwatch watch;
  for (int round = 0; round < kRounds; ++round) {
    // The next round takes as long as this one.
    if (round > 0 && watch.seconds() * (round + 1) / round > kLongest) break;
    for (size_t i = 0; i < graphs.size(); ++i) {
      best[i] = std::min(best[i], fastestStep(*graphs[i], parameters, inputs));
    }
  }
  return {best.front(), {best.begin() + 1, best.end()}};
}

// Every plan keeps tensors of other sizes for reuse: together they would be the most memory that the
// training ever takes.
double StepTimer::fastestStep(const Graph& graph, const std::vector<at::Tensor>& parameters,
                              const std::vector<at::Tensor>& inputs) const {
  releaseCpuCache();
  double best = std::numeric_limits<double>::infinity(), spent = 0;
  step(graph, parameters, inputs);
  for (int run = 0; run < kFewestStepRuns || (run < kMostStepRuns && spent < kEnoughOfSteps); ++run) {
    const double seconds = step(graph, parameters, inputs);
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

// As a training would run it.
std::shared_ptr<const Graph> StepTimer::prepared(const std::vector<std::string>& names) const {
  const auto planned = applyPrecision(timed_.graph, names);
  const auto needed = prune(planned, {outputsForLoss(*planned, &timed_.loss), {}});
  return prepareForTraining(needed,
                            {timed_.options.device, Precision::Float32, timed_.options.fuse, std::nullopt});
}

std::vector<at::Tensor> StepTimer::copyParameters() const {
  std::vector<at::Tensor> parameters;
  for (size_t i = 0; i < timed_.state.size(); ++i) {
    at::Tensor copy = timed_.state[i].detach().clone();
    if (copy.dim() == 4 && timed_.options.channels_last)
      copy = copy.contiguous(at::MemoryFormat::ChannelsLast);
    parameters.push_back(copy.set_requires_grad(timed_.trained[i]));
  }
  return parameters;
}

std::vector<at::Tensor> StepTimer::makeInputs() const {
  at::Generator generator = makeGenerator(at::kCPU, 0);
  std::vector<at::Tensor> inputs;
  for (const InputShape& shape : timed_.inputs) {
    const auto options = at::TensorOptions(shape.dtype);
    const bool floating = c10::isFloatingType(shape.dtype);
    at::Tensor input =
        floating ? at::randn(shape.shape, generator, options) : at::zeros(shape.shape, options);
    if (floating && input.dim() == 4 && timed_.options.channels_last) {
      input = input.contiguous(at::MemoryFormat::ChannelsLast);
    }
    inputs.push_back(std::move(input));
  }
  return inputs;
}

// Forward and backward, from gradients of ones at the outputs.
double StepTimer::step(const Graph& graph, const std::vector<at::Tensor>& parameters,
                       const std::vector<at::Tensor>& inputs) const {
  const c10::AutoGradMode grad_mode(true);
  const ModeTable modes = resolveModes(graph, timed_.options.modes);
  RunContext context;
  context.parameters = &parameters;
  context.modes = &modes;
  context.generator = makeGenerator(at::kCPU, 0);
  context.stop = &timed_.stop;
  const double start = threadSeconds();
  {
    std::vector<at::Tensor> outputs;
    for (at::Tensor& output : runGraph(graph, inputs, context)) {
      if (output.requires_grad()) outputs.push_back(std::move(output));
    }
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& output : outputs) gradients.push_back(at::ones_like(output));
    if (!outputs.empty()) torch::autograd::backward(outputs, gradients);
  }
  const double seconds = threadSeconds() - start;
  for (const at::Tensor& parameter : parameters) parameter.mutable_grad().reset();
  return seconds;
}

}  // namespace fornax
