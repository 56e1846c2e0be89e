#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>

#include <string>

#include "device/sync_count.h"

namespace fornax {

namespace {

class CudaSyncCount : public SyncCount, c10::WarningHandler {
 public:
  CudaSyncCount() : previous_(c10::cuda::warning_state().get_sync_debug_mode()), guard_(this) {
    c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_WARN);
  }
  ~CudaSyncCount() override { c10::cuda::warning_state().set_sync_debug_mode(previous_); }

  int64_t count() const override { return count_; }

 private:
  // Those of autograd's thread arrive here, too, when backward has ended.
  void process(const c10::Warning& warning) override {
    if (warning.msg().find("synchronizing CUDA operation") != std::string::npos) {
      ++count_;
    } else {
      c10::WarningHandler::process(warning);
    }
  }

  c10::cuda::SyncDebugMode previous_;
  int64_t count_ = 0;
  c10::WarningUtils::WarningHandlerGuard guard_;
};

}  // namespace

std::unique_ptr<SyncCount> countCudaSyncs() {
  return std::make_unique<CudaSyncCount>();
}

}  // namespace fornax
