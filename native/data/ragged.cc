#include "data/ragged.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace fornax {

const at::Tensor* offsetsOf(const Batch& batch, const std::string& name) {
  const size_t end = name.find('_');
  return end == std::string::npos ? nullptr : batch.find(name.substr(0, end) + "_offsets");
}

void checkOffsets(const at::Tensor& offsets, int64_t rows, const at::Tensor* values,
                  const std::string& name) {
  if (offsets.dim() != 1 || offsets.size(0) != rows + 1 || offsets.scalar_type() != at::kLong) {
    throw Error(ErrorKind::Data,
                "offsets need one int64 for each of the " + std::to_string(rows) + " samples and one more",
                name);
  }
  const int64_t* bounds = offsets.const_data_ptr<int64_t>();
  const bool rises = std::is_sorted(bounds, bounds + rows + 1);
  if (!rises || bounds[0] != 0 || (values && (values->dim() == 0 || bounds[rows] != values->size(0)))) {
    throw Error(
        ErrorKind::Data,
        "offsets must begin with 0, must not fall, and must end with the number of values that they split",
        name);
  }
}

at::Tensor gatherRagged(const at::Tensor& values, const at::Tensor& offsets,
                        const std::vector<int64_t>& rows) {
  const int64_t* bounds = offsets.const_data_ptr<int64_t>();
  int64_t count = 0;
  for (const int64_t row : rows) count += bounds[row + 1] - bounds[row];
  std::vector<int64_t> sizes = values.sizes().vec();
  sizes[0] = count;
  at::Tensor gathered = at::empty(sizes, values.options());
  const size_t bytes = values.size(0) == 0 ? 0 : values.nbytes() / static_cast<size_t>(values.size(0));
  const char* source = static_cast<const char*>(values.const_data_ptr());
  char* target = static_cast<char*>(gathered.mutable_data_ptr());
  for (const int64_t row : rows) {
    const size_t length = static_cast<size_t>(bounds[row + 1] - bounds[row]) * bytes;
    if (length > 0) std::memcpy(target, source + static_cast<size_t>(bounds[row]) * bytes, length);
    target += length;
  }
  return gathered;
}

at::Tensor gatherOffsets(const at::Tensor& offsets, const std::vector<int64_t>& rows) {
  const int64_t* bounds = offsets.const_data_ptr<int64_t>();
  std::vector<int64_t> gathered = {0};
  for (const int64_t row : rows) gathered.push_back(gathered.back() + bounds[row + 1] - bounds[row]);
  return at::tensor(gathered, at::kLong);
}

}  // namespace fornax
