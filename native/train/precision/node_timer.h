// How long single operators take, forward and backward, in float32 and in bfloat16, on the calling thread:
// with its number of threads and on tensors of noise, in the memory format of training. Equal operators on
// equal shapes are timed once.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace fornax {

// A call as inferring shapes saw it.
struct TimedCall {
  c10::OperatorHandle in_float32, in_bfloat16;
  std::vector<c10::IValue> arguments;  // tensors on the meta device
  // For each argument: a weight of the model, which a training keeps in float32 and casts in every step; and
  // whether its gradient is needed.
  std::vector<bool> is_weight, needs_gradient;
};

struct CallSeconds {
  double float32 = 0, bfloat16 = 0;
};

class NodeTimer {
 public:
  // `stop` ends a measurement between two runs (AbortedError).
  NodeTimer(bool channels_last, const std::atomic<bool>* stop) : channels_last_(channels_last), stop_(stop) {}

  // Unset if it cannot be run in both.
  std::optional<CallSeconds> time(const TimedCall& call);
  // Of casting one element there, and its gradient back.
  double secondsPerCastElement();

 private:
  double once(const TimedCall& call, const std::vector<at::Tensor>& leaves, bool bfloat16,
              at::Tensor& gradient) const;
  at::Tensor noise(at::IntArrayRef shape) const;

  bool channels_last_;
  const std::atomic<bool>* stop_;
  std::map<std::string, std::optional<CallSeconds>> known_;
  std::optional<double> cast_;
};

// Seconds that the calling thread has computed for, its waiting for others in a parallel region included as
// long as it spins. On a quiet machine what a clock on the wall shows; on a busy one not the time in which
// others had the processor, which is longer than all that is measured here.
double threadSeconds();

// Multiplications of a convolution or matrix product, forward; 0 for other operators.
double multiplications(const std::string& op, const std::vector<c10::IValue>& arguments,
                       const at::Tensor& result);

}  // namespace fornax
