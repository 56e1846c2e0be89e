#include "bindings/compute_pool.h"

#include <utility>

#include "core/worker_pool.h"
#include "device/compute_thread.h"

namespace fornax::bindings {

namespace {

class ComputePool : public Stoppable {
 public:
  ComputePool() : pool(1, [] { setUpComputeThread({}); }, {kIdleSeconds, endIdlePool}) {}
  void stopAndJoin() noexcept override { pool.stop(); }
  WorkerPool pool;
};

}  // namespace

void runOnComputeThread(Napi::Env env, const std::shared_ptr<Promise>& promise, std::function<void()> job) {
  Environment& environment = Environment::of(env);
  if (!environment.compute) {
    auto pool = std::make_shared<ComputePool>();
    environment.compute = pool;
    environment.addStoppable(pool);
  }
  static_cast<ComputePool&>(*environment.compute).pool.post([promise, job = std::move(job)] {
    try {
      job();
    } catch (...) {
      promise->reject(std::current_exception());
    }
  });
}

}  // namespace fornax::bindings
