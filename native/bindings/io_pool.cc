#include "bindings/io_pool.h"

#include <utility>

#include "core/worker_pool.h"
#include "device/compute_thread.h"

namespace fornax::bindings {

namespace {

class IoPool : public Stoppable {
 public:
  // What it computes (a change of dtype or layout) waits for the disk anyway: no OpenMP pool.
  IoPool() : pool(1, setUpScriptThread) {}
  void stopAndJoin() noexcept override { pool.stop(); }
  WorkerPool pool;
};

}  // namespace

void runOnIoThread(Napi::Env env, const std::shared_ptr<Promise>& promise, std::function<void()> job) {
  Environment& environment = Environment::of(env);
  if (!environment.io) {
    auto pool = std::make_shared<IoPool>();
    environment.io = pool;
    environment.addStoppable(pool);
  }
  static_cast<IoPool&>(*environment.io).pool.post([promise, job = std::move(job)] {
    try {
      job();
    } catch (...) {
      promise->reject(std::current_exception());
    }
  });
}

}  // namespace fornax::bindings
