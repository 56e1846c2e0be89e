#include "data/tensor_loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"
#include "data/epoch_order.h"

namespace fornax {

namespace {

[[noreturn]] void argument(const std::string& what, const std::string& fix = "") {
  throw Error(ErrorKind::Argument, what, "loader options", fix);
}

// Rows of `field` in the given order. Plain copies: a parallel operator would start a pool of threads on
// whatever thread asks for the batch.
at::Tensor gatherRows(const at::Tensor& field, const std::vector<int64_t>& rows) {
  std::vector<int64_t> sizes = field.sizes().vec();
  sizes[0] = static_cast<int64_t>(rows.size());
  at::Tensor gathered = at::empty(sizes, field.options());
  const size_t bytes = field.size(0) == 0 ? 0 : field.nbytes() / static_cast<size_t>(field.size(0));
  const char* source = static_cast<const char*>(field.const_data_ptr());
  char* target = static_cast<char*>(gathered.mutable_data_ptr());
  for (const int64_t row : rows) {
    std::memcpy(target, source + static_cast<size_t>(row) * bytes, bytes);
    target += bytes;
  }
  return gathered;
}

}  // namespace

TensorLoader::TensorLoader(TensorLoaderOptions options) : options_(std::move(options)) {
  checkOptions();
  if (options_.indices) {
    samples_ = std::move(*options_.indices);
    options_.indices.reset();
  } else {
    samples_.resize(options_.fields.front().second.size(0));
    std::iota(samples_.begin(), samples_.end(), 0);
  }
  const int64_t rows = options_.fields.front().second.size(0);
  for (const int32_t sample : samples_) {
    if (sample < 0 || sample >= rows) {
      argument("indices holds " + std::to_string(sample) + ", and there are samples 0 to " +
               std::to_string(rows - 1));
    }
  }
  const auto n = static_cast<int64_t>(samples_.size());
  batches_ = options_.drop_last ? n / wholeBatch() : (n + wholeBatch() - 1) / wholeBatch();
  if (batches_ == 0) {
    argument("a batch_size of " + std::to_string(wholeBatch()) + " leaves no batch of " + std::to_string(n) +
                 " samples",
             "a smaller batch_size, or drop_last: false");
  }
  const int64_t rest = options_.drop_last ? 0 : n % wholeBatch();
  if (rest > 0 && rest < options_.world) {
    argument("the last batch has " + std::to_string(rest) + " samples for " + std::to_string(options_.world) +
                 " processes",
             "drop_last: true, or another batch_size");
  }
}

void TensorLoader::checkOptions() {
  if (options_.batch_size < 1 || options_.batch_size > (1 << 20)) {
    argument("batch_size must be an integer from 1 to 1048576");
  }
  if (options_.world < 1 || options_.world > (1 << 20) || options_.rank < 0 ||
      options_.rank >= options_.world) {
    argument("shard: rank counts from 0 to world - 1");
  }
  if (options_.fields.empty()) argument("fields is empty", "give a tensor for each field of a batch");
  int64_t rows = -1;
  for (auto& [name, field] : options_.fields) {
    const std::string where = "fields." + name;
    if (field.dim() == 0) {
      throw Error(ErrorKind::Data, "a field needs a first dimension that counts the samples", where);
    }
    if (rows >= 0 && field.size(0) != rows) {
      throw Error(ErrorKind::Data,
                  "the field has " + std::to_string(field.size(0)) + " samples, `" +
                      options_.fields.front().first + "` has " + std::to_string(rows),
                  where, "every field needs one entry for each sample");
    }
    rows = field.size(0);
    if (rows > INT32_MAX) throw Error(ErrorKind::Data, "more than 2^31 samples", where);
    field = field.detach().to(at::kCPU).contiguous();
  }
}

int64_t TensorLoader::samplesPerEpoch() const {
  const auto n = static_cast<int64_t>(samples_.size());
  if (options_.drop_last) return batches_ * options_.batch_size;
  return n / wholeBatch() * options_.batch_size + share(n % wholeBatch());
}

void TensorLoader::startEpoch(int64_t epoch, int64_t skip) {
  // Random numbers are keyed by 32 bits of the epoch.
  if (epoch < 0 || epoch > UINT32_MAX)
    throw Error(ErrorKind::Argument, "epoch must be 0 or more", "startEpoch");
  if (skip < 0 || skip > batches_) {
    throw Error(
        ErrorKind::Argument,
        "skip is " + std::to_string(skip) + ", and an epoch has " + std::to_string(batches_) + " batches",
        "startEpoch");
  }
  const std::lock_guard lock(mutex_);
  if (closed_) throw Error(ErrorKind::Disposed, "the loader was disposed", "startEpoch");
  order_ = samples_;
  if (options_.shuffle) shuffleEpoch(order_, options_.seed, epoch);
  epoch_ = epoch;
  head_ = skip;
}

bool TensorLoader::next(Batch& batch, const std::atomic<bool>& stop) {
  std::vector<int64_t> rows;
  int64_t whole = 0;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(ErrorKind::Disposed, "the loader was disposed", "Loader.next");
    if (epoch_ < 0) {
      throw Error(ErrorKind::Argument, "no epoch was started", "Loader.next", "call startEpoch(0) first");
    }
    if (stop.load(std::memory_order_relaxed) || head_ >= batches_) return false;
    const int64_t first = head_ * wholeBatch();
    whole = std::min(wholeBatch(), static_cast<int64_t>(order_.size()) - first);
    for (int64_t i = options_.rank; i < whole; i += options_.world) rows.push_back(order_[first + i]);
    ++head_;
  }
  batch.fields.clear();
  for (const auto& [name, field] : options_.fields) batch.fields.emplace_back(name, gatherRows(field, rows));
  if (!batch.find("index")) batch.fields.emplace_back("index", at::tensor(rows, at::kLong));
  batch.global_rows = whole;
  return true;
}

void TensorLoader::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace fornax
