// Which samples an epoch delivers in which batches, and which of them are this process's: what the loaders of
// packs and of tensors in memory share. A function of the options and the epoch alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace fornax {

struct EpochOptions {
  std::optional<std::vector<int32_t>> indices;  // which samples; default all
  int64_t batch_size = 1;
  bool shuffle = false;
  bool drop_last = false;
  uint64_t seed = 0;
  // This process delivers items rank, rank + world, … of each batch; `batch_size` is its share of a full one.
  int64_t rank = 0, world = 1;

  // ArgumentError.
  void check() const;
};

class EpochPlan {
 public:
  // Of a source with samples 0 … `size` − 1. ArgumentError, also where the last batch is too small for every
  // process to get a sample.
  EpochPlan(EpochOptions options, int64_t size);

  int64_t batchSize() const { return options_.batch_size; }
  uint64_t seed() const { return options_.seed; }
  // In source order.
  const std::vector<int32_t>& samples() const { return samples_; }
  int64_t batches() const { return batches_; }
  // Of this process.
  int64_t samplesPerEpoch() const;

  // What startEpoch() is told. ArgumentError.
  void checkStart(int64_t epoch, int64_t skip) const;
  std::vector<int32_t> order(int64_t epoch) const;

  // Item i of this process stands in the order at first + i · stride().
  struct Share {
    int64_t first;
    int64_t count;
    int64_t whole;  // items of all processes
  };
  Share share(int64_t batch) const;
  int64_t stride() const { return options_.world; }

 private:
  // Of the first `whole` items of a batch: how many are this process's.
  int64_t countOf(int64_t whole) const {
    return (whole - options_.rank + options_.world - 1) / options_.world;
  }
  int64_t wholeBatch() const { return options_.batch_size * options_.world; }

  EpochOptions options_;
  std::vector<int32_t> samples_;
  int64_t batches_ = 0;
};

}  // namespace fornax
