// TorchScript archives: compiled from generated source, and run again to check them. The source is
// TypeScript's business (src/export/torchscript.ts). No state; functions may be called on any thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace fornax {

struct ScriptTensor {
  enum class Kind { Parameter, Buffer };
  std::string name;  // path in the state dict: layer1.0.conv1.weight
  Kind kind;
  at::Tensor tensor;
};

// Compiles the methods in `source` on a module that holds `tensors` in submodules by their paths, and saves
// it with the texts of `extra` as additional files. WeightsError if the source does not compile or the file
// cannot be written (a partial file may remain).
void writeTorchScript(const std::string& path, const std::string& source,
                      const std::vector<ScriptTensor>& tensors,
                      const std::vector<std::pair<std::string, std::string>>& extra);

struct ScriptRun {
  // By name: "" for a single tensor, "0", "1"… for a tuple, the keys of a dictionary.
  std::vector<std::pair<std::string, at::Tensor>> outputs;
  // The state dict.
  std::vector<ScriptTensor> state;
};

// Loads an archive that Fornax wrote (loading compiles the source in it: never one from elsewhere) and calls
// its forward. WeightsError if it cannot be loaded, ExecutionError if it fails.
ScriptRun runTorchScript(const std::string& path, const std::vector<at::Tensor>& inputs);

}  // namespace fornax
