#include "train/nan/step_diagnosis.h"

#include <functional>
#include <new>

#include "core/error.h"
#include "device/memory.h"
#include "device/out_of_memory.h"
#include "train/memory/forward_state.h"

namespace fornax {

namespace {

// Whether memory sufficed for `work`; other errors pass. What `work` held is gone.
bool fits(const std::function<void()>& work) {
  try {
    work();
    return true;
  } catch (const OutOfMemoryError&) {
  } catch (const c10::Error& error) {
    if (!isOutOfMemory(error)) throw;
  } catch (const std::bad_alloc&) {
  }
  return false;
}

}  // namespace

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
    const bool fit = fits([&] {
      micro_batches.accumulate(batch, 1.0 / static_cast<double>(options.grad_accum), /*last=*/false);
    });
    if (fit) continue;
    // Of a place there is what was seen until then; that the step was not finite is the news, not this.
    step.clearGradients();
    releaseCachedMemory(options.device);
    break;
  }
  before.putBack();
  return looking.finding();
}

}  // namespace fornax
