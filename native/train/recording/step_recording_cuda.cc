// Steps as CUDA graphs: compiled only in the CUDA variant.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <exception>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "core/generator.h"
#include "device/recording_mutex.h"
#include "train/recording/step_recording.h"

namespace fornax {

namespace {

// Up to torch 2.12 a generator must be announced to the graph; later ones join it at their first draw. Either
// way the kernels read seed and offset from device memory, which each replay sets from the generator and then
// moves the generator on by what the graph draws.
template <typename Impl>
constexpr bool isAnnounced =
    requires(Impl& generator, at::cuda::CUDAGraph& graph) { generator.register_graph(&graph); };

template <typename Impl>
void announce(Impl& generator, at::cuda::CUDAGraph& graph) {
  if constexpr (isAnnounced<Impl>) generator.register_graph(&graph);
}

// An announced generator believes that it is being captured until the capture has ended well, and refuses to
// draw from then on (`Offset increment outside graph capture`). A new state with the same numbers does not.
template <typename Impl>
void freeFromCapture(at::Generator& generator) {
  if constexpr (isAnnounced<Impl>) {
    at::Generator fresh = makeGenerator(generator.device(), 0);
    fresh.set_state(generator.get_state());
    generator.graphsafe_set_state(fresh);
  }
}

class CudaRecording : public StepRecording {
 public:
  explicit CudaRecording(at::Generator generator) : generator_(std::move(generator)) {}

  void record(const std::function<void()>& work) override {
    std::lock_guard lock(recordingMutex());
    announce(*at::check_generator<at::CUDAGeneratorImpl>(generator_), graph_);
    const at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
    const c10::DeviceIndex device = c10::cuda::current_device();
    std::exception_ptr failure;
    try {
      // Of this thread only: loader threads allocate page-locked memory meanwhile, and autograd's thread
      // works on the stream that is captured.
      graph_.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      try {
        work();
      } catch (...) {
        failure = std::current_exception();
      }
      // Also after a failure, or the stream would stay in capture.
      graph_.capture_end();
    } catch (...) {
      if (!failure) failure = std::current_exception();
      abandon(device, pool);
    }
    if (!failure) return;
    graph_.reset();
    std::rethrow_exception(failure);
  }

  void replay() override { graph_.replay(); }

 private:
  // What a capture that did not end well leaves. Up to torch 2.13 capture_end() throws before it tells the
  // allocators that the capture is over, and they would go on serving a pool that nothing frees from. Where
  // they know already they say so, and that is fine.
  void abandon(c10::DeviceIndex device, at::cuda::MempoolId_t pool) {
    graph_.reset();
    try {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool);
      c10::cuda::CUDACachingAllocator::releasePool(device, pool);
    } catch (const c10::Error&) {
    }
    try {
      at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool);
      at::getHostAllocator(at::kCUDA)->release_pool(pool);
    } catch (const std::exception&) {
    }
    freeFromCapture<at::CUDAGeneratorImpl>(generator_);
  }

  at::Generator generator_;
  at::cuda::CUDAGraph graph_;
};

}  // namespace

std::unique_ptr<StepRecording> makeCudaRecording(const at::Generator& generator) {
  return std::make_unique<CudaRecording>(generator);
}

}  // namespace fornax
