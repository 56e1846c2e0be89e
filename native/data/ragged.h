// Fields of a batch with another number of values in each row: `face_boxes` [F, 4] and whatever else begins
// with `face_` go with `face_offsets` int64 [rows + 1], which says where the values of each row begin.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "data/batch.h"

namespace fornax {

// The offsets of a ragged field (also of the offsets themselves), or null if it is none.
const at::Tensor* offsetsOf(const Batch& batch, const std::string& name);

// DataError unless `offsets` are those of `rows` rows, and split `values` from its first to its last one;
// null: of which there are none to look at.
void checkOffsets(const at::Tensor& offsets, int64_t rows, const at::Tensor* values, const std::string& name);

// Of checked, contiguous tensors on the CPU: the values of the given rows one after another, and their
// offsets.
at::Tensor gatherRagged(const at::Tensor& values, const at::Tensor& offsets,
                        const std::vector<int64_t>& rows);
at::Tensor gatherOffsets(const at::Tensor& offsets, const std::vector<int64_t>& rows);

}  // namespace fornax
