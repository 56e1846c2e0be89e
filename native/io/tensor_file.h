// Tensors in and out of files, by plain reads and writes (a file that shrinks under a mapping would kill the
// process). The format of the header is TypeScript's business (src/io/safetensors.ts).
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
  int64_t offset;  // bytes from the start of the file
  int64_t length;  // bytes
};

// WeightsError if a range lies outside the file, does not fit shape and dtype, or cannot be read.
std::vector<at::Tensor> readTensors(const std::string& path, const std::vector<TensorRange>& ranges);

// Header, then the tensors' bytes one after another; fsynced. Returns the SHA-256 of the file. The file is
// created or truncated; on failure a partial file may remain (the caller writes to a temporary name).
std::string writeTensors(const std::string& path, const std::string& header,
                         const std::vector<at::Tensor>& tensors);

}  // namespace fornax
