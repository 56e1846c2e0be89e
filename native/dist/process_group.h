// The processes of one training, connected over c10d: Gloo for tensors on the CPU and for what the processes
// say to each other, NCCL for tensors on GPUs. Every process must call the same functions in the same order.
// Thread-safe; several collectives may be under way at once.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace fornax {

struct ProcessGroupOptions {
  int rank = 0;
  int size = 1;
  // Where the processes find each other: rank 0 listens there, unless somebody else does already (`server`).
  std::string host = "127.0.0.1";
  int port = 29500;
  bool server = false;
  std::string prefix = "fornax";  // of keys, for a server that is shared
  std::string interface;          // see openGloo
  c10::Device device = c10::kCPU;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
};

class ProcessGroup {
 public:
  // Waits for the other processes. TrainError if they do not come.
  static std::shared_ptr<ProcessGroup> connect(const ProcessGroupOptions& options);
  // A group that is connected, by its id; null if there is none (any more).
  static std::shared_ptr<ProcessGroup> find(int64_t id);
  ~ProcessGroup();

  int rank() const { return options_.rank; }
  int size() const { return options_.size; }
  int64_t id() const { return id_; }

  // Starts to replace a contiguous tensor by its sum over all processes. What is returned waits for it: the
  // host for a tensor on the CPU, the current stream for one on a GPU.
  [[nodiscard]] std::function<void()> startSum(const at::Tensor& tensor);
  void sum(const at::Tensor& tensor) { startSum(tensor)(); }
  // Whether any process says so.
  bool any(bool mine);
  // Gives every process the values of rank 0.
  void broadcast(const at::Tensor& tensor);
  // The texts of all processes, by rank. Waits as long as it takes, for others may be busy.
  std::vector<std::string> gather(const std::string& text);

  // Makes whoever waits throw AbortedError, now and ever after. Any thread.
  void interrupt() { interrupted_ = true; }

 private:
  struct Backends;
  explicit ProcessGroup(const ProcessGroupOptions& options);
  [[noreturn]] void lost(const std::string& message) const;

  const ProcessGroupOptions options_;
  const int64_t id_;
  std::atomic<bool> interrupted_{false};
  std::unique_ptr<Backends> backends_;
};

}  // namespace fornax
