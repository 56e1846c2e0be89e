#include "train/step_diagnosis.h"

#include "train/forward_state.h"

namespace fornax {

Finding diagnoseStep(TrainStep& step, MicroBatches& micro_batches, NodeInspector* inspector,
                     BatchSource& source, int64_t index, const TrainOptions& options,
                     const std::atomic<bool>& abort) {
  ForwardState before(step.writtenBuffers(), step.generator());
  before.save();
  NodeInspector looking;
  struct Restore {
    TrainStep& step;
    NodeInspector* inspector;
    ~Restore() {
      step.inspect(inspector);
      step.clearGradients();
    }
  } restore{step, inspector};
  step.inspect(&looking);
  step.give({});
  step.clearGradients();
  step.beginStep(index);
  for (int64_t i = 0; i < options.grad_accum; ++i) {
    Batch batch;
    if (!source.next(batch, abort)) break;
    // Never the last one, with which the exchange of several processes begins.
    micro_batches.accumulate(batch, 1.0 / static_cast<double>(options.grad_accum), /*last=*/false);
  }
  before.putBack();
  return looking.finding();
}

}  // namespace fornax
