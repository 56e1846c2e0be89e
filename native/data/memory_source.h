// Batches that a script holds in memory: delivered once, in their order. Immutable but for its position.
#pragma once

#include <utility>
#include <vector>

#include "data/batch.h"

namespace fornax {

class MemorySource : public BatchSource {
 public:
  explicit MemorySource(std::vector<Batch> batches) : batches_(std::move(batches)) {}

  bool next(Batch& batch, const std::atomic<bool>& stop) override {
    if (stop || next_ == batches_.size()) return false;
    batch = batches_[next_++];
    return true;
  }

  int64_t batchesPerEpoch() const override { return static_cast<int64_t>(batches_.size()); }

  int64_t samplesPerEpoch() const override {
    int64_t samples = 0;
    for (const Batch& batch : batches_) {
      if (!batch.fields.empty() && batch.fields[0].second.dim() > 0)
        samples += batch.fields[0].second.size(0);
    }
    return samples;
  }

 private:
  std::vector<Batch> batches_;
  size_t next_ = 0;
};

}  // namespace fornax
