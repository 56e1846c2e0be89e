#include "train/source_step.h"

#include <ATen/ATen.h>

#include <chrono>
#include <utility>

#include "train/batch/row_weights.h"

namespace fornax {

bool SourceStep::take(BatchSource& source, std::vector<Batch>& taken) {
  using Clock = std::chrono::steady_clock;
  const auto before = Clock::now();
  Batch batch;
  // Once begun, a group is finished: only closing the session interrupts it.
  // Several processes begin it together or not at all: see StepLoop::endAgreed().
  const bool may_stop = taken.empty() && !options_.group;
  const bool more = source.next(batch, may_stop ? signals_.stop : signals_.abort);
  wait_seconds_ += std::chrono::duration<double>(Clock::now() - before).count();
  signals_.throwIfAborted();
  if (more) taken.push_back(std::move(batch));
  return more;
}

// Gradients are cleared before a step, not after it, so that those of the last one can be read. `taken`: what
// an earlier attempt at this step took from the source; it is taken first, and what comes after it is added.
// Every row counts alike, also where the last batches of an epoch are fewer or smaller.
SourceStep::Result SourceStep::accumulate(BatchSource& source, std::vector<Batch>& taken) {
  step_.clearGradients();
  Result result;
  const int64_t wanted = options_.grad_accum;
  RowWeights weights(wanted);
  while (result.micro_batches < wanted) {
    const auto place = static_cast<size_t>(result.micro_batches);
    if (place == taken.size() && !take(source, taken)) break;
    const int64_t rows = step_.globalRows(taken[place]);
    result.samples += rows;
    const double weight = weights.next(rows);
    const bool last = result.micro_batches + 1 == wanted;
    at::Tensor loss = micro_batches_.accumulate(taken[place], weight, last).loss;
    if (weight != 1) loss = loss * weight;
    if (!micro_batches_.retries()) taken[place] = {};
    result.loss = result.loss.defined() ? result.loss + loss : loss;
    ++result.micro_batches;
  }
  if (result.micro_batches == 0) return result;
  step_.reduce(result.loss);
  // Not before: gradients are on their way to the other processes while the last backward goes on.
  if (const double factor = weights.correction(); factor != 1) {
    result.loss = result.loss * factor;
    step_.trained().rescaleGradients(factor);
  }
  return result;
}

// Does a whole step, its update included, from a recording. False if it has to be computed as usual; what was
// prepared for it is then used for that.
bool SourceStep::repeat(BatchSource& source, std::vector<Batch>& taken, Result& result) {
  if (!capture_ || !capture_->declined().empty()) return false;
  const auto wanted = static_cast<size_t>(options_.grad_accum);
  while (taken.size() < wanted) {
    if (!take(source, taken)) return false;
  }
  std::vector<StepInputs> inputs = micro_batches_.prepare(taken);
  const auto loss = capture_->repeat(
      inputs,
      [&] {
        if (const auto momentum = schedule_.momentum(signals_.steps)) step_.setMomentum(*momentum);
        step_.beginUpdate(schedule_.learningRate(signals_.steps));
      },
      [&] {
        std::vector<Batch> again = taken;
        const Result all = accumulate(source, again);
        step_.unscaleGradients();
        const at::Tensor norm = step_.clipGradients();
        guard_.raise(all.loss, norm);
        step_.applyUpdate();
        return all.loss;
      });
  if (!loss) {
    step_.give(std::move(inputs));
    return false;
  }
  result = {*loss, options_.grad_accum, 0, 0, true, {}};
  for (const Batch& batch : taken) result.samples += step_.globalRows(batch);
  return true;
}

SourceStep::Result SourceStep::compute(BatchSource& source, const OnHalved& on_halved) {
  Result result;
  std::vector<Batch> taken;
  wait_seconds_ = 0;
  bool repeats = true, repeating = false;
  micro_batches_.run(
      signals_.steps,
      [&] {
        guard_.beginAttempt(signals_.steps);
        repeating = repeats;
        if (repeats && repeat(source, taken, result)) return;
        repeating = false;
        result = accumulate(source, taken);
        if (result.micro_batches == 0) return;
        step_.unscaleGradients();
        result.norm = guard_.normToLookAt(signals_.steps, step_.clipGradients());
        guard_.raise(result.loss, result.norm);
      },
      [&] {
        // A recording keeps the memory of whole batches, and to prepare a step at once takes more than part
        // by part.
        repeats = false;
        if (!capture_) return false;
        const bool held = capture_->forget();
        if (repeating && capture_->declined().empty() && short_of_memory_++ > 0)
          capture_->decline("memory does not suffice for whole steps");
        return held;
      },
      on_halved);
  result.wait_seconds = wait_seconds_;
  return result;
}

}  // namespace fornax
