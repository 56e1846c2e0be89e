#include "train/torch_errors.h"

#include "core/error.h"
#include "device/out_of_memory.h"

namespace fornax {

void throwTorchError(const char* phase, const c10::Error& error) {
  const std::string message = error.what_without_backtrace();
  if (isOutOfMemory(error)) {
    throw OutOfMemoryError(message, phase, "use a smaller batch, or grad_accum with smaller micro-batches");
  }
  throw Error(ErrorKind::Execution, std::string(phase) + " failed: " + message, phase);
}

}  // namespace fornax
