#include "data/tensor_loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "data/ragged.h"

namespace fornax {

namespace {

using Fields = std::vector<std::pair<std::string, at::Tensor>>;

// Contiguous on the CPU, with one entry for each sample, or ragged; those with one entry first: a batch's
// rows are counted by its first field.
Batch checked(Fields fields) {
  if (fields.empty()) {
    throw Error(ErrorKind::Argument, "fields is empty", "loader options",
                "give a tensor for each field of a batch");
  }
  Batch all;
  all.fields = std::move(fields);
  for (auto& [name, field] : all.fields) {
    if (field.dim() == 0) {
      throw Error(ErrorKind::Data, "a field needs a first dimension that counts the samples",
                  "fields." + name);
    }
    field = field.detach().to(at::kCPU).contiguous();
  }
  const Batch named = all;
  const auto dense = [&](const auto& field) { return offsetsOf(named, field.first) == nullptr; };
  std::stable_partition(all.fields.begin(), all.fields.end(), dense);
  const auto& [first, of] = all.fields.front();
  if (!dense(all.fields.front())) {
    throw Error(ErrorKind::Data, "no field has one entry for each sample", "fields." + first);
  }
  const int64_t rows = of.size(0);
  if (rows > INT32_MAX) throw Error(ErrorKind::Data, "more than 2^31 samples", "fields." + first);
  for (const auto& [name, field] : all.fields) {
    const std::string where = "fields." + name;
    if (const at::Tensor* offsets = offsetsOf(named, name)) {
      const bool splits = offsets->unsafeGetTensorImpl() != field.unsafeGetTensorImpl();
      checkOffsets(*offsets, rows, splits ? &field : nullptr, where);
    } else if (field.size(0) != rows) {
      throw Error(ErrorKind::Data,
                  "the field has " + std::to_string(field.size(0)) + " samples, `" + first + "` has " +
                      std::to_string(rows),
                  where, "every field needs one entry for each sample");
    }
  }
  return all;
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

TensorLoader::TensorLoader(TensorLoaderOptions options)
    : fields_(checked(std::move(options.fields))),
      plan_(std::move(options.epochs), fields_.fields.front().second.size(0)) {}

void TensorLoader::startEpoch(int64_t epoch, int64_t skip) {
  plan_.checkStart(epoch, skip);
  const std::lock_guard lock(mutex_);
  if (closed_) throw Error(ErrorKind::Disposed, "the loader was disposed", "startEpoch");
  order_ = plan_.order(epoch);
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
    if (stop.load(std::memory_order_relaxed) || head_ >= plan_.batches()) return false;
    const EpochPlan::Share share = plan_.share(head_);
    whole = share.whole;
    for (int64_t i = 0; i < share.count; ++i) rows.push_back(order_[share.first + i * plan_.stride()]);
    ++head_;
  }
  batch.fields.clear();
  for (const auto& [name, field] : fields_.fields) {
    const at::Tensor* offsets = offsetsOf(fields_, name);
    const bool is_offsets = offsets == &field;
    batch.fields.emplace_back(name, is_offsets ? gatherOffsets(field, rows)
                                    : offsets  ? gatherRagged(field, *offsets, rows)
                                               : gatherRows(field, rows));
  }
  if (!batch.find("index")) batch.fields.emplace_back("index", at::tensor(rows, at::kLong));
  batch.global_rows = whole;
  return true;
}

void TensorLoader::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace fornax
