#include "data/epoch_plan.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"
#include "data/random.h"

namespace fornax {

namespace {

[[noreturn]] void argument(const std::string& what, const std::string& fix = "") {
  throw Error(ErrorKind::Argument, what, "loader options", fix);
}

}  // namespace

void EpochOptions::check() const {
  if (batch_size < 1 || batch_size > (1 << 20)) argument("batch_size must be an integer from 1 to 1048576");
  if (world < 1 || world > (1 << 20) || rank < 0 || rank >= world) {
    argument("shard: rank counts from 0 to world - 1");
  }
}

EpochPlan::EpochPlan(EpochOptions options, int64_t size) : options_(std::move(options)) {
  options_.check();
  if (options_.indices) {
    samples_ = std::move(*options_.indices);
    options_.indices.reset();
    if (samples_.empty()) argument("indices is empty");
  } else {
    samples_.resize(size);
    std::iota(samples_.begin(), samples_.end(), 0);
  }
  if (samples_.empty()) argument("there are no samples");
  for (const int32_t sample : samples_) {
    if (sample < 0 || sample >= size) {
      argument("indices holds " + std::to_string(sample) + ", and there are samples 0 to " +
               std::to_string(size - 1));
    }
  }
  const auto n = static_cast<int64_t>(samples_.size());
  batches_ = options_.drop_last ? n / wholeBatch() : (n + wholeBatch() - 1) / wholeBatch();
  if (batches_ == 0) {
    argument("batch_size " + std::to_string(wholeBatch()) + " with drop_last leaves no batch of " +
                 std::to_string(n) + " samples",
             "a smaller batch_size, or drop_last: false");
  }
  const int64_t rest = options_.drop_last ? 0 : n % wholeBatch();
  if (rest > 0 && rest < options_.world) {
    argument("the last batch has " + std::to_string(rest) + " samples for " + std::to_string(options_.world) +
                 " processes",
             "drop_last: true, or another batch_size");
  }
}

int64_t EpochPlan::samplesPerEpoch() const {
  if (options_.drop_last) return batches_ * options_.batch_size;
  const auto n = static_cast<int64_t>(samples_.size());
  return n / wholeBatch() * options_.batch_size + countOf(n % wholeBatch());
}

void EpochPlan::checkStart(int64_t epoch, int64_t skip) const {
  // Random numbers are keyed by 32 bits of the epoch.
  if (epoch < 0 || epoch > UINT32_MAX)
    throw Error(ErrorKind::Argument, "epoch must be 0 or more", "startEpoch");
  if (skip < 0 || skip > batches_) {
    throw Error(
        ErrorKind::Argument,
        "skip is " + std::to_string(skip) + ", and an epoch has " + std::to_string(batches_) + " batches",
        "startEpoch");
  }
}

std::vector<int32_t> EpochPlan::order(int64_t epoch) const {
  std::vector<int32_t> order = samples_;
  if (!options_.shuffle) return order;
  // Fisher & Yates, from the end.
  RandomStream random(options_.seed, static_cast<uint64_t>(epoch), 0, RandomOperation::Shuffle);
  for (size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[random.below(static_cast<uint32_t>(i + 1))]);
  }
  return order;
}

EpochPlan::Share EpochPlan::share(int64_t batch) const {
  const int64_t first = batch * wholeBatch();
  const int64_t whole = std::min(wholeBatch(), static_cast<int64_t>(samples_.size()) - first);
  return {first + options_.rank, countOf(whole), whole};
}

}  // namespace fornax
