// Delivers the batches of an epoch from tensors in memory, one per field, whose first size counts the
// samples: what a script trains on without files. Shuffles as the Loader does (loader.h); batches are
// gathered on the thread that asks for them. What is delivered is a pure function of (fields, options,
// epoch).
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "data/epoch_plan.h"
#include "data/epoch_source.h"

namespace fornax {

struct TensorLoaderOptions {
  std::vector<std::pair<std::string, at::Tensor>> fields;
  EpochOptions epochs;
};

class TensorLoader : public EpochSource {
 public:
  // Fields are read where they lie: they must not change. Ragged ones go by their offsets (ragged.h).
  // ArgumentError, DataError for fields that differ in their number of samples.
  explicit TensorLoader(TensorLoaderOptions options);

  void startEpoch(int64_t epoch, int64_t skip = 0) override;
  // The fields, [B, …] each (ragged ones behind the others) and contiguous, and `index` int64 [B] (position
  // in the fields) unless there is one.
  bool next(Batch& batch, const std::atomic<bool>& stop) override;

  int64_t batchesPerEpoch() const override { return plan_.batches(); }
  int64_t samplesPerEpoch() const override { return plan_.samplesPerEpoch(); }
  // The fields belong to whoever gave them.
  int64_t memory() const override { return 0; }
  void close() noexcept override;

 private:
  Batch fields_;  // all samples
  EpochPlan plan_;

  std::mutex mutex_;
  std::vector<int32_t> order_;  // of the epoch
  int64_t epoch_ = -1;          // -1: none started
  int64_t head_ = 0;            // next batch
  bool closed_ = false;
};

}  // namespace fornax
