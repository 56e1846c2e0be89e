#include "device/process_settings.h"

#include <ATen/Context.h>

#include <mutex>
#include <string>

#include "core/error.h"

namespace fornax {

namespace {

void refuse(const char* name, const std::optional<bool>& current, const std::optional<bool>& wanted) {
  if (!current || !wanted || *current == *wanted) return;
  const std::string state = *current ? "on" : "off";
  throw Error(
      ErrorKind::Device,
      std::string(name) + " is a setting of the whole process and another session has switched it " + state,
      name, "use the same value in all sessions, or another process");
}

}  // namespace

void applyProcessSettings(const ProcessSettings& given) {
  static std::mutex mutex;
  static ProcessSettings current;
  std::lock_guard lock(mutex);
  ProcessSettings wanted = given;
  if (wanted.deterministic.value_or(false)) {
    if (wanted.cudnn_benchmark.value_or(false)) {
      throw Error(ErrorKind::Argument, "deterministic and cudnn_benchmark contradict each other",
                  "cudnn_benchmark", "leave it out, or set it to false");
    }
    wanted.cudnn_benchmark = false;
  }
  refuse("deterministic", current.deterministic, wanted.deterministic);
  refuse("cudnn_benchmark", current.cudnn_benchmark, wanted.cudnn_benchmark);
  refuse("tf32", current.tf32, wanted.tf32);
  if (wanted.cudnn_benchmark && !current.cudnn_benchmark) {
    at::globalContext().setBenchmarkCuDNN(*wanted.cudnn_benchmark);
    current.cudnn_benchmark = wanted.cudnn_benchmark;
  }
  if (wanted.tf32 && !current.tf32) {
    at::globalContext().setAllowTF32CuBLAS(*wanted.tf32);
    at::globalContext().setAllowTF32CuDNN(*wanted.tf32);
    current.tf32 = wanted.tf32;
  }
  if (wanted.deterministic && !current.deterministic) {
    at::globalContext().setDeterministicAlgorithms(*wanted.deterministic, /*warn_only=*/false);
    at::globalContext().setDeterministicCuDNN(*wanted.deterministic);
    // Filling fresh memory with NaN finds faults of operators; no operator of ours reads what it has not
    // written.
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    current.deterministic = wanted.deterministic;
  }
}

}  // namespace fornax
