#include "data/labels.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace fornax {

namespace {

// Which sample of the data set a row is, if the batch says so.
std::string describeRow(const Batch& batch, int64_t row) {
  const at::Tensor* index = batch.find("index");
  if (!index) return "row " + std::to_string(row) + " of a batch";
  return "sample " + std::to_string((*index)[row].item<int64_t>());
}

}  // namespace

const at::Tensor& checkedLabels(const Batch& batch, const std::string& name, int64_t classes) {
  const at::Tensor* label = batch.find(name);
  if (!label) throw Error(ErrorKind::Data, "the data has no `" + name + "`", "batch", "take a labelled set");
  if (label->dim() != 1 || label->scalar_type() != at::kLong) {
    throw Error(ErrorKind::Data, "`" + name + "` must be int64 with one value per sample", "batch." + name);
  }
  const at::Tensor bad = at::logical_or(label->lt(0), label->ge(classes)).nonzero();
  if (bad.numel() > 0) {
    const int64_t row = bad[0].item<int64_t>();
    throw Error(ErrorKind::Data,
                "label " + std::to_string((*label)[row].item<int64_t>()) + " is outside 0…" +
                    std::to_string(classes - 1),
                describeRow(batch, row), "the data has other classes than the model");
  }
  return *label;
}

}  // namespace fornax
