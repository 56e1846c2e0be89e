// Tensors out of files, by plain reads (a file that shrinks under a mapping would kill the process). Where
// they lie is found by TypeScript (src/weights, src/io/safetensors_header.ts).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fornax {

struct TensorRange {
  std::string name;
  c10::ScalarType dtype;
  std::vector<int64_t> shape;
  int64_t offset;                     // of the first element, bytes from the start of the file
  int64_t length;                     // bytes from the first element to the end of the last
  std::vector<int64_t> strides = {};  // in elements, none negative; empty: contiguous
  bool big_endian = false;
};

// Into new tensors on the CPU. WeightsError if a range lies outside the file, does not fit shape and dtype,
// or cannot be read.
std::vector<at::Tensor> readTensors(const std::string& path, const std::vector<TensorRange>& ranges);

// Fills `targets` (the same shapes; any dtype, layout and device). What already has the target's form is read
// straight into it, anything else goes through a buffer of a few megabytes: beside the targets there is never
// a copy of the weights. All ranges are checked before the first byte is written.
void readTensorsInto(const std::string& path, const std::vector<TensorRange>& ranges,
                     const std::vector<at::Tensor>& targets);

}  // namespace fornax
