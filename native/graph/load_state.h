// Copies named tensors into a State.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "graph/state.h"
#include "io/read_tensors.h"

namespace fornax {

struct LoadReport {
  std::vector<std::string> missing;     // in the model, not given
  std::vector<std::string> unexpected;  // given, not in the model
  std::vector<std::string> mismatched;  // "name: model [64, 3, 7, 7], given [64, 1, 7, 7]"
};

// Nothing is changed if `strict` and the report is not empty: WeightsError listing all of it.
LoadReport loadState(State& state, const std::vector<std::pair<std::string, at::Tensor>>& entries,
                     bool strict);

// The same from a file, straight into the state: there is never a second copy of the weights. That every
// tensor lies within the file is checked first; if a read fails nevertheless, what was read so far stays.
LoadReport loadStateFromFile(State& state, const std::string& path, const std::vector<TensorRange>& ranges,
                             bool strict);

}  // namespace fornax
