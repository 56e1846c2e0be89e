// Opens the collectives of c10d. Apart, so that only gloo_backend.cc and nccl_backend_cuda.cc see their
// headers.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace fornax {

// Over TCP, for tensors on the CPU. `interface`: name of a network interface, `localhost` for processes of
// one machine, or empty: the one that the host's name resolves to. Waits for the other processes.
c10::intrusive_ptr<c10d::Backend> openGloo(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                           const std::string& interface, std::chrono::milliseconds timeout);

#ifdef FORNAX_CUDA
// For tensors on one GPU.
c10::intrusive_ptr<c10d::Backend> openNccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                           c10::Device device, std::chrono::milliseconds timeout);
#endif

}  // namespace fornax
