// Delivers the batches of an epoch from a pack: shuffled, augmented, assembled ahead of the consumer by
// threads of its own, in a fixed order. What is delivered is a pure function of (pack, options, epoch):
// threads and prefetch change only when. The threads sleep while the ring is full and call no parallel ATen
// operator (each would start an OpenMP pool).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "data/augment.h"
#include "data/batch_buffers.h"
#include "data/epoch_plan.h"
#include "data/epoch_source.h"
#include "data/pack.h"

namespace fornax {

struct LoaderOptions {
  std::vector<PackShard> shards;
  int channels = 3;
  EpochOptions epochs;
  AugmentOptions augment;
  int threads = 0;   // 0: cores − 1, at least 1
  int prefetch = 0;  // batches; 0: 2 × threads, at least 2
  struct Normalize {
    std::vector<double> mean, std;
  };
  std::optional<Normalize> normalize;
  bool pin = false;  // page-locked batches, for CUDA
};

class Loader : public EpochSource {
 public:
  // Opens and checks the pack, checks that every sample fits the augmentation, starts the threads.
  // ArgumentError, DataError, DeviceError (pin without CUDA).
  explicit Loader(LoaderOptions options);
  ~Loader() override;

  // Drops what was prepared before.
  void startEpoch(int64_t epoch, int64_t skip = 0) override;

  // See BatchSource. `image` uint8 [B, H, W, C], or normalised float32 [B, C, H, W] in channels-last memory;
  // `label`, `index` int64 [B]. An error of an epoch is thrown again by every later call, until startEpoch().
  // DisposedError after close(); ArgumentError before the first startEpoch().
  bool next(Batch& batch, const std::atomic<bool>& stop) override;

  int64_t batchesPerEpoch() const override { return plan_.batches(); }
  int64_t samplesPerEpoch() const override { return plan_.samplesPerEpoch(); }

  // What the batches of the ring take, bytes.
  int64_t memory() const override;

  // Stops and joins the threads.
  void close() noexcept override;

 private:
  // One place of the ring: the batch that is being assembled in it or waits in it.
  struct Slot {
    BatchBuffers buffers;
    int64_t first = 0;  // position in order_
    int64_t count = 0;  // of this process
    int64_t whole = 0;  // of all processes
    int64_t taken = 0;  // samples handed to threads
    int64_t done = 0;
    bool ready() const { return done == count; }
  };
  struct Work {
    Slot* slot;
    int64_t begin, end;  // samples of the slot
    bool opened;         // first piece of its batch
  };

  void checkOptions();
  void checkSamples() const;
  void startThreads();
  void runThread();
  bool findWork(Work& work);  // under the lock
  void assemble(const Work& work, ImageAssembler& assembler);
  void cancel(std::unique_lock<std::mutex>& lock);  // waits until no thread works on the ring

  LoaderOptions options_;
  Pack pack_;
  EpochPlan plan_;
  std::optional<NormalizeTable> normalize_;
  int64_t image_bytes_ = 0;  // of one delivered image
  int64_t piece_ = 1;        // samples a thread takes at a time

  std::mutex mutex_;
  std::condition_variable work_, ready_, idle_;
  BatchPool pool_;
  std::vector<Slot> ring_;
  std::vector<int32_t> order_;  // of the epoch
  int64_t epoch_ = -1;          // -1: none started
  int64_t head_ = 0;            // next batch to deliver
  int64_t opened_ = 0;          // next batch to begin
  int64_t end_ = 0;
  int active_ = 0;  // threads at work on the ring
  bool closing_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace fornax
