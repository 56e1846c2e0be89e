#include "io/tensor_file.h"

#include <ATen/ATen.h>
#include <fcntl.h>

#include "core/crc32.h"
#include "core/sha256.h"
#include "io/file.h"

namespace fornax {

namespace {

// On the CPU, contiguous: the bytes as they stand in a file.
at::Tensor toBytes(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).contiguous();
}

}  // namespace

std::string writeChunks(const std::string& path, const std::vector<FileChunk>& chunks) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC);
  Sha256 digest;
  auto put = [&](const void* data, size_t size) {
    if (size == 0) return;
    digest.update(data, size);
    file.write(data, size);
  };
  for (const auto& chunk : chunks) {
    put(chunk.bytes.data(), chunk.bytes.size());
    if (!chunk.tensor.defined()) continue;
    at::Tensor bytes = toBytes(chunk.tensor);
    if (bytes.nbytes() > 0) put(bytes.const_data_ptr(), bytes.nbytes());
  }
  file.finish();
  return digest.finish();
}

std::vector<uint32_t> checksums(const std::vector<at::Tensor>& tensors) {
  std::vector<uint32_t> result;
  for (const auto& tensor : tensors) {
    at::Tensor bytes = toBytes(tensor);
    result.push_back(bytes.nbytes() > 0 ? crc32(bytes.const_data_ptr(), bytes.nbytes()) : 0);
  }
  return result;
}

}  // namespace fornax
