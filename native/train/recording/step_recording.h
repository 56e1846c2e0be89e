// What a device did in a step, kept so that it can do it again without the host saying so operator by
// operator: a CUDA graph (step_recording_cuda.cc), or a tape of operators that stands in for one on the CPU,
// for tests (tape_recording.cc). Memory stays where it was: whoever repeats a recording fills the same inputs
// and finds the same outputs. Numbers that the host passed to operators are part of the recording. Used on
// the session's thread.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <string>

#include "graph/graph.h"

namespace fornax {

class StepRecording {
 public:
  virtual ~StepRecording() = default;

  // Calls `work` and keeps what it asks of the device; nothing of it happens now, neither to tensors nor to
  // the generator. Once per recording. Passes on what `work` throws; fornax::Error (Execution) if the device
  // cannot record it, a value that the host reads among others. A recording that failed is of no use any
  // more.
  virtual void record(const std::function<void()>& work) = 0;

  // Does it, after what the current stream has to do already. The generator moves on as it would have.
  virtual void replay() = 0;
};

// Why steps of this model or loss cannot be recorded: a node whose results the host has to look at. Empty if
// they can, as far as the graph tells.
std::string recordingObstacle(const Graph& graph);

// The one for the device; on the CPU a tape.
std::unique_ptr<StepRecording> makeRecording(c10::Device device, const at::Generator& generator);

// On the device's current stream, which must be nobody else's (own_stream.h). One at a time in a process.
// DeviceError without the CUDA variant.
std::unique_ptr<StepRecording> makeCudaRecording(const at::Generator& generator);

// On the CPU. `generator` is put back after recording.
std::unique_ptr<StepRecording> makeTapeRecording(const at::Generator& generator);

}  // namespace fornax
