#include "dist/backend.h"

#if __has_include(<nccl.h>)
#define USE_C10D_NCCL
#include <c10/cuda/CUDAGuard.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#else
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "core/error.h"
#endif

namespace fornax {

c10::intrusive_ptr<c10d::Backend> openNccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                           c10::Device device, std::chrono::milliseconds timeout) {
#ifdef USE_C10D_NCCL
  const c10::cuda::CUDAGuard guard(device);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, std::move(options));
#else
  throw Error(ErrorKind::Device, "this build knows several processes on CPUs only", "ProcessGroup",
              "build again where nccl.h is found (the package nvidia-nccl)");
#endif
}

}  // namespace fornax
