#include "train/nan/step_diagnosis.h"

#include <exception>

#include "device/memory.h"
#include "device/out_of_memory.h"
#include "train/memory/forward_state.h"

namespace fornax {

Finding diagnoseStep(TrainStep& step, MicroBatches& micro_batches, NodeInspector* inspector,
                     BatchSource& source, int64_t index, const TrainOptions& options,
                     const std::atomic<bool>& abort) {
  ForwardState before(step.writtenBuffers(), step.generator());
  before.save();
  NodeInspector looking;
  step.inspect(&looking);
  step.give({});
  step.clearGradients();
  step.beginStep(index);
  std::exception_ptr error;
  try {
    for (int64_t i = 0; i < options.grad_accum; ++i) {
      Batch batch;
      if (!source.next(batch, abort)) break;
      // Never the last one, with which the exchange of several processes begins.
      const auto failure = allocationFailure([&] {
        micro_batches.accumulate(batch, 1.0 / static_cast<double>(options.grad_accum), /*last=*/false);
      });
      if (!failure) continue;
      // Of a place there is what was seen until then; that the step was not finite is the news, not this.
      step.clearGradients();
      releaseCachedMemory(options.device);
      break;
    }
  } catch (...) {
    error = std::current_exception();
  }
  step.inspect(inspector);
  step.clearGradients();
  before.putBack();
  if (error) std::rethrow_exception(error);
  return looking.finding();
}

}  // namespace fornax
