#include "train/precision/measure_precision.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "device/compute_thread.h"
#include "device/cpu_allocator.h"
#include "device/system_info.h"
#include "train/job_thread.h"
#include "train/passes/precision.h"
#include "train/precision/node_timer.h"
#include "train/precision/step_calls.h"
#include "train/precision/step_timer.h"
#include "train/precision/stopwatch.h"

namespace fornax {

namespace {

// What one thread multiplies in a second, roughly (AVX-512, float32). Only decides whether measuring is
// worth it and how large its batches are, so that these do not depend on a clock.
constexpr double kMultiplicationsPerSecond = 6e10;
// A step is three products of each kind: forward, gradients of the input, gradients of the weights.
constexpr double kProductsPerStep = 3;
// A measurement takes about kStepsOfMeasurement steps and kSecondsOfMeasurement, and gains a third of a
// training at best. It is worth it for trainings that take kTimesAsLong times as long, or kSmallestTraining.
constexpr double kSmallestTraining = 15;  // seconds
constexpr double kStepsOfMeasurement = 60, kSecondsOfMeasurement = 0.2, kTimesAsLong = 10;
constexpr double kSmallestStep = 2e-4;  // seconds; below, casts cost more than products
// Batches are cut down to this length of a step: the ratios stay, and the measurement is short.
constexpr double kLongestStep = 0.3;
constexpr double kLongestForNodes = 6;  // seconds of computing; nodes that are not reached stay float32
constexpr double kMargin = 0.03;        // by which a plan must be faster than float32
constexpr int kSweeps = 8;
constexpr double kLenience = 1.25;

// A node that may be of either precision.
struct Candidate {
  StepCall step;
  CallSeconds seconds;  // 0 where it was not timed
};

class Measurement {
 public:
  Measurement(std::shared_ptr<const Graph> graph, const State& state, const Graph& loss,
              const TrainOptions& options, const MeasureRequest& request, const std::atomic<bool>& stop)
      : graph_(std::move(graph)),
        loss_(loss),
        options_(options),
        request_(request),
        stop_(stop),
        nodes_(precisionNodes(*graph_)),
        flow_(*graph_),
        timer_(options.channels_last, &stop) {
    if (request_.inputs.size() != graph_->inputs().size()) {
      throw Error(ErrorKind::Argument,
                  "the graph has " + std::to_string(graph_->inputs().size()) + " inputs, but " +
                      std::to_string(request_.inputs.size()) + " shapes are given",
                  "inputs");
    }
    std::unordered_set<std::string> trained;
    for (const GroupOptions& group : options_.groups) {
      trained.insert(group.parameters.begin(), group.parameters.end());
    }
    for (size_t i = 0; i < state.size(); ++i) {
      state_.push_back(state.at(i));
      trained_.push_back(trained.count(state.specs()[i].name) > 0);
    }
  }

  PrecisionVerdict run() {
    if (stop_) throw Error(ErrorKind::Aborted, "the measurement was stopped");
    const Stopwatch watch;
    PrecisionVerdict verdict;
    candidates_.resize(nodes_.size());
    verdict.nodes = static_cast<int64_t>(nodes_.size());
    verdict.reason = measure(verdict);
    if (verdict.reason != PrecisionVerdict::Reason::Measured) verdict.bf16.clear();
    verdict.seconds = watch.wall();
    verdict.processor_share = watch.processorShare();
    return verdict;
  }

 private:
  PrecisionVerdict::Reason measure(PrecisionVerdict& verdict) {
    using Reason = PrecisionVerdict::Reason;
    const CpuFeatures features = cpuFeatures();
    if (!features.avx512_bf16 && !features.amx_bf16) return Reason::Unsupported;
    if (!chooseBatch(verdict)) return Reason::TooSmall;
    timeNodes();
    // By nodes alone; with what casts cost where nothing absorbs them; and with more in bfloat16, as what
    // lies between two nodes then moves half the bytes.
    std::set<std::vector<bool>> plans = {fasterNodes(1), leastCost(timer_.secondsPerCastElement()),
                                         fasterNodes(kLenience)};
    plans.erase(std::vector<bool>(candidates_.size(), false));
    if (plans.empty()) return Reason::NoGain;
    const std::vector<bool> best = fastestInSteps({plans.begin(), plans.end()}, verdict);
    for (size_t i = 0; i < candidates_.size(); ++i) {
      const CallSeconds& seconds = candidates_[i].seconds;
      verdict.nodes_float32 += seconds.float32;
      verdict.nodes_plan += best[i] ? seconds.bfloat16 : seconds.float32;
      if (best[i]) verdict.bf16.push_back(nodes_[i].name);
    }
    return verdict.step_plan <= (1 - kMargin) * verdict.step_float32 ? Reason::Measured : Reason::NoGain;
  }

  // Looks at the shapes of a step and cuts its batch down to one that is measured in seconds. False: not
  // worth it.
  bool chooseBatch(PrecisionVerdict& verdict) {
    inputs_ = request_.inputs;
    inferCalls();
    const int threads = options_.threads > 0 ? options_.threads : defaultThreads();
    const double step = kProductsPerStep * totalMultiplications() / (kMultiplicationsPerSecond * threads);
    if (step < kSmallestStep) return false;
    const double passes = static_cast<double>(options_.grad_accum);
    const double smallest =
        std::min(kSmallestTraining, kTimesAsLong * (kSecondsOfMeasurement + kStepsOfMeasurement * step));
    if (request_.steps && step * passes * static_cast<double>(*request_.steps) < smallest) return false;
    verdict.batch = inputs_.empty() || inputs_[0].shape.empty() ? 1 : inputs_[0].shape[0];
    if (step > kLongestStep && verdict.batch > 2) {
      const auto fitting = static_cast<int64_t>(static_cast<double>(verdict.batch) * kLongestStep / step);
      cutBatch(verdict, std::max<int64_t>(2, fitting));
    }
    return true;
  }

  void cutBatch(PrecisionVerdict& verdict, int64_t rows) {
    const std::vector<InputShape> whole = inputs_;
    for (InputShape& input : inputs_) {
      if (!input.shape.empty() && input.shape[0] == verdict.batch) input.shape[0] = rows;
    }
    try {
      inferCalls();
      verdict.batch = rows;
    } catch (const Error& error) {
      if (error.kind != ErrorKind::Guard) throw;
      // The model branches on the number of rows: it is measured with those it will have.
      inputs_ = whole;
      inferCalls();
    }
  }

  double totalMultiplications() const {
    double total = 0;
    for (const Candidate& candidate : candidates_) total += candidate.step.multiplications;
    return total;
  }

  void inferCalls() {
    std::vector<StepCall> calls =
        inferStepCalls(graph_, loss_, nodes_, {trained_, inputs_, options_.fuse, &stop_});
    for (size_t i = 0; i < calls.size(); ++i) candidates_[i] = {std::move(calls[i]), {}};
  }

  // The largest first: what is not reached in time matters least.
  void timeNodes() {
    std::vector<Candidate*> order;
    for (Candidate& candidate : candidates_) {
      if (candidate.step.call) order.push_back(&candidate);
    }
    std::stable_sort(order.begin(), order.end(), [](const Candidate* a, const Candidate* b) {
      return a->step.multiplications > b->step.multiplications;
    });
    const Stopwatch watch;
    for (Candidate* candidate : order) {
      if (watch.seconds() > kLongestForNodes) break;
      const auto seconds = timer_.time(*candidate->step.call);
      if (seconds) candidate->seconds = *seconds;
      releaseCpuCache();  // of other sizes than what the next node needs
    }
  }

  // Those in bfloat16 that take less than `factor` of their time in float32.
  std::vector<bool> fasterNodes(double factor) const {
    std::vector<bool> plan;
    for (const Candidate& candidate : candidates_) {
      plan.push_back(candidate.seconds.bfloat16 < factor * candidate.seconds.float32);
    }
    return plan;
  }

  // From there by single changes, as long as one gains: of what the nodes take and what the casts of the plan
  // cost.
  std::vector<bool> leastCost(double seconds_per_cast_element) const {
    std::vector<bool> plan = fasterNodes(1);
    const std::vector<double> elements = slotElements();
    double cost = costOf(plan, elements, seconds_per_cast_element);
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      bool changed = false;
      for (size_t i = 0; i < plan.size(); ++i) {
        if (candidates_[i].seconds.float32 == 0) continue;
        plan[i] = !plan[i];
        const double other = costOf(plan, elements, seconds_per_cast_element);
        if (other < cost) {
          cost = other;
          changed = true;
        } else {
          plan[i] = !plan[i];
        }
      }
      if (!changed) break;
    }
    return plan;
  }

  double costOf(const std::vector<bool>& plan, const std::vector<double>& elements,
                double per_element) const {
    double cost = 0;
    std::vector<bool> bfloat16(graph_->nodes().size(), false);
    for (size_t i = 0; i < plan.size(); ++i) {
      const CallSeconds& seconds = candidates_[i].seconds;
      cost += plan[i] ? seconds.bfloat16 : seconds.float32;
      bfloat16[nodes_[i].index] = plan[i];
    }
    for (const PrecisionCast& cast : flow_.casts(bfloat16)) cost += elements[cast.slot] * per_element;
    return cost;
  }

  // Of every value that may be cast; weights cost nothing here, as their casts are timed with the nodes.
  std::vector<double> slotElements() const {
    const c10::NoGradGuard no_grad;
    std::vector<double> elements(graph_->spec().slots, 0);
    const std::vector<NodeShapes> shapes = inferShapes(*graph_, inputs_);
    const auto product = [](const std::vector<int64_t>& shape) {
      return static_cast<double>(c10::multiply_integers(shape));
    };
    for (size_t i = 0; i < inputs_.size(); ++i) {
      elements[graph_->inputs()[i].slot] = product(inputs_[i].shape);
    }
    for (size_t i = 0; i < shapes.size(); ++i) {
      size_t result = 0;
      for (int slot : graph_->nodes()[i].outs) {
        if (slot >= 0 && result < shapes[i].outputs.size()) {
          elements[slot] = product(shapes[i].outputs[result++]);
        }
      }
    }
    return elements;
  }

  std::vector<bool> fastestInSteps(const std::vector<std::vector<bool>>& plans, PrecisionVerdict& verdict) {
    std::vector<std::vector<std::string>> names;
    for (const std::vector<bool>& plan : plans) names.push_back(namesOf(plan));
    const StepSeconds seconds =
        StepTimer({graph_, loss_, options_, state_, trained_, inputs_, stop_}).time(names);
    const auto fastest = std::min_element(seconds.plans.begin(), seconds.plans.end());
    verdict.step_float32 = seconds.float32;
    verdict.step_plan = *fastest;
    return plans[fastest - seconds.plans.begin()];
  }

  std::vector<std::string> namesOf(const std::vector<bool>& plan) const {
    std::vector<std::string> names;
    for (size_t i = 0; i < plan.size(); ++i) {
      if (plan[i]) names.push_back(nodes_[i].name);
    }
    return names;
  }

  std::shared_ptr<const Graph> graph_;
  const Graph& loss_;
  const TrainOptions& options_;
  const MeasureRequest& request_;
  const std::atomic<bool>& stop_;
  std::vector<PrecisionNode> nodes_;
  PrecisionFlow flow_;
  NodeTimer timer_;
  std::vector<at::Tensor> state_;  // the model's own: read, never written
  std::vector<bool> trained_;
  std::vector<InputShape> inputs_;
  std::vector<Candidate> candidates_;  // one per node
};

}  // namespace

PrecisionVerdict measurePrecision(const std::shared_ptr<const Graph>& graph, const State& state,
                                  const Graph& loss, const TrainOptions& options,
                                  const MeasureRequest& request, const std::atomic<bool>& stop) {
  checkTrainOptions(options);
  if (!options.device.is_cpu()) {
    throw Error(ErrorKind::Argument, "precision is measured on the CPU only", "options.device");
  }
  JobThread thread("fornax-measure");
  PrecisionVerdict verdict = thread.call([&] {
    setUpComputeThread({options.threads, options.flush_denormal});
    return Measurement(graph, state, loss, options, request, stop).run();
  });
  thread.close();
  releaseCpuCache();
  return verdict;
}

}  // namespace fornax
