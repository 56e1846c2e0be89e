#include "train/torch_errors.h"

#include "core/error.h"

namespace fornax {

namespace {

bool outOfMemory(const c10::Error& error, const std::string& message) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) ||
         message.find("not enough memory") != std::string::npos ||
         message.find("can't allocate memory") != std::string::npos;
}

}  // namespace

void throwTorchError(const char* phase, const c10::Error& error) {
  const std::string message = error.what_without_backtrace();
  if (outOfMemory(error, message)) {
    throw Error(ErrorKind::Device, std::string("out of memory in ") + phase + ": " + message, phase,
                "use a smaller batch, or grad_accum with smaller micro-batches");
  }
  throw Error(ErrorKind::Execution, std::string(phase) + " failed: " + message, phase);
}

}  // namespace fornax
