// Tensors into files, by plain writes. The formats are TypeScript's business (src/io/safetensors.ts,
// src/export/pth.ts).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fornax {

// A piece of a file: bytes, then a tensor's (if it is defined).
struct FileChunk {
  std::string bytes;
  at::Tensor tensor;
};

// The chunks one after another, tensors contiguous and little endian; fsynced. Returns the SHA-256 of the
// file. The file is created or truncated; on failure a partial file may remain (the caller writes to a
// temporary name).
std::string writeChunks(const std::string& path, const std::vector<FileChunk>& chunks);

// CRC-32 of the bytes of each tensor, as writeChunks writes them.
std::vector<uint32_t> checksums(const std::vector<at::Tensor>& tensors);

}  // namespace fornax
