#include "data/loader.h"

#include <ATen/ATen.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>

#include "core/error.h"

namespace fornax {

namespace {

// Batches larger than this leave the caches before anyone reads them; written around the cache they cost half
// the memory traffic.
constexpr int64_t kStreamBytes = 8 << 20;

int defaultThreads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) - 1);
}

[[noreturn]] void argument(const std::string& what, const std::string& fix = "") {
  throw Error(ErrorKind::Argument, what, "loader options", fix);
}

LoaderOptions withDefaults(LoaderOptions options) {
  if (options.threads == 0) options.threads = defaultThreads();
  if (options.prefetch == 0) options.prefetch = std::max(2, 2 * options.threads);
  return options;
}

}  // namespace

Loader::Loader(LoaderOptions options)
    : options_(withDefaults(std::move(options))),
      pack_((checkOptions(), options_.shards), options_.channels),
      plan_(std::move(options_.epochs), pack_.size()),
      // Page-locked memory is not kept here: the last reference may go while a copy to the GPU still reads
      // it. The allocator of CUDA knows that, and keeps such blocks itself.
      pool_({plan_.batchSize(), options_.augment.height, options_.augment.width, options_.channels},
            options_.normalize ? at::kFloat : at::kByte, options_.pin ? 0 : options_.prefetch + 4,
            options_.pin),
      ring_(options_.prefetch) {
  checkSamples();
  if (options_.normalize)
    normalize_.emplace(options_.normalize->mean, options_.normalize->std, options_.channels);
  const int64_t elements = options_.augment.height * options_.augment.width * options_.channels;
  image_bytes_ = elements * (normalize_ ? 4 : 1);
  // Around 100 µs of work each: little enough to share a batch evenly, much enough to make the lock cheap.
  piece_ = std::clamp<int64_t>(100'000 / elements, 1, 64);
  startThreads();
}

Loader::~Loader() {
  close();
}

void Loader::checkOptions() {
  if (options_.channels != 1 && options_.channels != 3) argument("channels must be 1 or 3");
  options_.epochs.check();
  if (options_.threads < 1 || options_.threads > 256) argument("threads must be an integer from 1 to 256");
  if (options_.prefetch < 1 || options_.prefetch > 1024)
    argument("prefetch must be an integer from 1 to 1024");
  options_.augment.validate();
  if (options_.pin && !at::globalContext().hasCUDA()) {
    throw Error(ErrorKind::Device, "page-locked batches need CUDA, and there is none", "loader options, pin",
                "leave pin out");
  }
}

void Loader::checkSamples() const {
  for (const int32_t sample : plan_.samples()) {
    const Pack::Image image = pack_.image(sample);
    const std::string reason = misfit(options_.augment, image.height, image.width);
    if (!reason.empty()) {
      throw Error(ErrorKind::Data, reason, pack_.describe(sample),
                  "another crop (resize_crop, random_resized_crop), or prepare the data at this size");
    }
  }
}

void Loader::startThreads() {
  // Signals belong to Node's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { runThread(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    close();
    throw Error(ErrorKind::Fornax, "cannot start " + std::to_string(options_.threads) + " loader threads",
                "loader options, threads", "fewer threads, or a higher limit on processes (ulimit -u)");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

int64_t Loader::memory() const {
  return options_.prefetch * plan_.batchSize() * (image_bytes_ + 16);
}

void Loader::startEpoch(int64_t epoch, int64_t skip) {
  plan_.checkStart(epoch, skip);
  std::unique_lock lock(mutex_);
  cancel(lock);
  if (closing_) throw Error(ErrorKind::Disposed, "the loader was disposed", "startEpoch");
  pack_.checkUnchanged();
  order_ = plan_.order(epoch);
  epoch_ = epoch;
  head_ = opened_ = skip;
  end_ = plan_.batches();
  failure_ = nullptr;
  work_.notify_all();
}

void Loader::cancel(std::unique_lock<std::mutex>& lock) {
  end_ = opened_;  // nothing new is begun
  for (Slot& slot : ring_) slot.taken = slot.count;
  idle_.wait(lock, [this] { return active_ == 0; });
  for (Slot& slot : ring_) slot = Slot{};
  head_ = opened_ = end_ = 0;
}

bool Loader::findWork(Work& work) {
  if (failure_) return false;
  for (int64_t batch = head_; batch < opened_; ++batch) {
    Slot& slot = ring_[batch % options_.prefetch];
    if (slot.taken < slot.count) {
      work = {&slot, slot.taken, std::min(slot.count, slot.taken + piece_), false};
      slot.taken = work.end;
      return true;
    }
  }
  if (opened_ >= end_ || opened_ - head_ >= options_.prefetch) return false;
  Slot& slot = ring_[opened_ % options_.prefetch];
  const EpochPlan::Share share = plan_.share(opened_);
  slot = {pool_.take(), share.first, share.count, share.whole, std::min(share.count, piece_), 0};
  ++opened_;
  work = {&slot, 0, slot.taken, true};
  return true;
}

void Loader::runThread() {
  pthread_setname_np(pthread_self(), "fornax-loader");
  std::optional<ImageAssembler> assembler;
  std::unique_lock lock(mutex_);
  while (true) {
    Work work{};
    bool found = false;
    try {
      while (!closing_ && !(found = findWork(work))) work_.wait(lock);
      if (!found) return;
      ++active_;
      lock.unlock();
      // Each thread that found something to do wakes the next, as long as there is more.
      if (work.end < work.slot->count || work.opened) work_.notify_one();
      if (!assembler) {
        assembler.emplace(options_.augment.height, options_.augment.width, options_.channels,
                          normalize_ ? &*normalize_ : nullptr,
                          plan_.batchSize() * image_bytes_ > kStreamBytes);
      }
      assemble(work, *assembler);
      lock.lock();
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      if (!failure_) failure_ = std::current_exception();
      ready_.notify_all();
    }
    if (!found) continue;
    --active_;
    work.slot->done += work.end - work.begin;
    if (work.slot->ready()) ready_.notify_all();
    if (active_ == 0) idle_.notify_all();
  }
}

void Loader::assemble(const Work& work, ImageAssembler& assembler) {
  // Read without the lock: none of this changes while a thread is active (cancel() waits).
  const Slot& slot = *work.slot;
  if (work.opened) {
    pack_.checkUnchanged();
    for (int64_t i = 0; i < slot.count; ++i) pack_.willNeed(order_[slot.first + i * plan_.stride()]);
  }
  auto* images = static_cast<char*>(slot.buffers.image.mutable_data_ptr());
  auto* labels = slot.buffers.label.mutable_data_ptr<int64_t>();
  auto* indices = slot.buffers.index.mutable_data_ptr<int64_t>();
  for (int64_t i = work.begin; i < work.end; ++i) {
    const int64_t sample = order_[slot.first + i * plan_.stride()];
    const Pack::Image image = pack_.image(sample);
    const Geometry geometry =
        drawGeometry(options_.augment, image.height, image.width, plan_.seed(), epoch_, sample);
    assembler.assemble(image.pixels, image.width, geometry, images + i * image_bytes_);
    labels[i] = pack_.label(sample);
    indices[i] = sample;
  }
}

bool Loader::next(Batch& batch, const std::atomic<bool>& stop) {
  BatchBuffers buffers;
  int64_t count = 0, whole = 0;
  {
    std::unique_lock lock(mutex_);
    while (true) {
      if (closing_) throw Error(ErrorKind::Disposed, "the loader was disposed", "Loader.next");
      if (epoch_ < 0) {
        throw Error(ErrorKind::Argument, "no epoch was started", "Loader.next", "call startEpoch(0) first");
      }
      if (stop.load(std::memory_order_relaxed)) return false;
      // Batches before the failure were complete, but an epoch with a hole is of no use to anyone.
      if (failure_) std::rethrow_exception(failure_);
      if (head_ >= end_) return false;
      if (head_ < opened_ && ring_[head_ % options_.prefetch].ready()) break;
      ready_.wait_for(lock, std::chrono::milliseconds(50));
    }
    Slot& slot = ring_[head_ % options_.prefetch];
    buffers = std::move(slot.buffers);
    count = slot.count;
    whole = slot.whole;
    slot = Slot{};
    ++head_;
  }
  work_.notify_one();
  at::Tensor image = buffers.image.narrow(0, 0, count);
  if (normalize_) image = image.permute({0, 3, 1, 2});
  batch.fields = {{"image", std::move(image)},
                  {"label", buffers.label.narrow(0, 0, count)},
                  {"index", buffers.index.narrow(0, 0, count)}};
  batch.global_rows = whole;
  return true;
}

void Loader::close() noexcept {
  std::vector<std::thread> threads;
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    threads.swap(threads_);
    work_.notify_all();
    ready_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace fornax
