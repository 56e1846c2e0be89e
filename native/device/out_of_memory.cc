#include "device/out_of_memory.h"

#include <array>
#include <new>

namespace fornax {

bool isOutOfMemory(const c10::Error& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return true;
  static constexpr std::array kPhrases = {
      "not enough memory",           // ours
      "can't allocate memory",       // libtorch's CPU allocator
      "CUBLAS_STATUS_ALLOC_FAILED",  // the libraries allocate for themselves
      "CUDNN_STATUS_ALLOC_FAILED",   // also where its sublibraries name the cause
      "CUDA error: out of memory",   // the driver: cudaErrorMemoryAllocation
      "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
  };
  const std::string message = error.what_without_backtrace();
  for (const char* phrase : kPhrases) {
    if (message.find(phrase) != std::string::npos) return true;
  }
  return false;
}

std::optional<AllocationFailure> allocationFailure(const std::function<void()>& work) {
  static const std::string kStep = "the training step";
  try {
    work();
    return std::nullopt;
  } catch (const OutOfMemoryError& error) {
    return AllocationFailure{error.what(), error.where, error.module};
  } catch (const c10::Error& error) {
    if (!isOutOfMemory(error)) throw;
    return AllocationFailure{std::string("out of memory: ") + error.what_without_backtrace(), kStep, ""};
  } catch (const std::bad_alloc&) {
    return AllocationFailure{"out of memory", kStep, ""};
  }
}

}  // namespace fornax
