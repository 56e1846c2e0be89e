// A batch is a set of named tensors; a source delivers the batches of one epoch. Sessions know only this
// interface, so that packs, in-memory data and feature files train through the same path.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fornax {

struct Batch {
  std::vector<std::pair<std::string, at::Tensor>> fields;
  // Rows of the whole batch, of which this is one process's share; 0: not shared out.
  int64_t global_rows = 0;

  const at::Tensor* find(const std::string& name) const {
    for (const auto& field : fields) {
      if (field.first == name) return &field.second;
    }
    return nullptr;
  }
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Blocks until a batch is ready. False at the end of the epoch, or as soon as `stop` becomes true (checked
  // at least every 50 ms). Throws fornax::Error. Called from one consumer thread at a time.
  virtual bool next(Batch& batch, const std::atomic<bool>& stop) = 0;
  virtual int64_t batchesPerEpoch() const = 0;
  virtual int64_t samplesPerEpoch() const = 0;
};

}  // namespace fornax
