#include "io/tensor_file.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/crc32.h"
#include "core/sha256.h"
#include "io/file.h"

namespace fornax {

namespace {

// Fits the second-level cache: what was hashed or put in order is still there when it is written.
constexpr size_t kPiece = 256 << 10;

// Bytes into a file and into its checksum, in one pass over them.
class HashedFile {
 public:
  explicit HashedFile(const std::string& path)
      : file_(path, O_WRONLY | O_CREAT | O_TRUNC), gathered_(new uint8_t[kPiece]) {}

  void write(const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    while (size > 0) {
      const size_t piece = std::min(size, kPiece - held_);
      if (piece == kPiece) {
        put(bytes, piece);
      } else {
        std::memcpy(gathered_.get() + held_, bytes, piece);
        held_ += piece;
        if (held_ == kPiece) putGathered();
      }
      bytes += piece, size -= piece;
    }
  }

  void write(const at::Tensor& tensor) {
    const c10::NoGradGuard no_grad;
    const at::Tensor there = tensor.detach().to(at::kCPU);
    if (there.nbytes() == 0) return;
    if (there.is_contiguous()) return write(there.const_data_ptr(), there.nbytes());
    // Weights of convolutions in channels-last, for one: put in order piece by piece, by the first dimension.
    const int64_t rows = there.size(0);
    const auto row_bytes = static_cast<int64_t>(there.nbytes()) / rows;
    const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(kPiece) / row_bytes, 1, rows);
    std::vector<int64_t> sizes = there.sizes().vec();
    sizes[0] = most;
    const at::Tensor ordered = at::empty(sizes, there.options().memory_format(at::MemoryFormat::Contiguous));
    for (int64_t row = 0; row < rows; row += most) {
      const int64_t count = std::min(most, rows - row);
      ordered.narrow(0, 0, count).copy_(there.narrow(0, row, count));
      write(ordered.const_data_ptr(), static_cast<size_t>(count * row_bytes));
    }
  }

  // Flushes to the disk. Returns the checksum.
  std::string finish() {
    putGathered();
    file_.finish();
    return digest_.finish();
  }

 private:
  void put(const uint8_t* bytes, size_t size) {
    digest_.update(bytes, size);
    file_.write(bytes, size);
  }

  void putGathered() {
    if (held_ > 0) put(gathered_.get(), held_);
    held_ = 0;
  }

  File file_;
  Sha256 digest_;
  // What is small, most tensors of most models, is written together.
  std::unique_ptr<uint8_t[]> gathered_;
  size_t held_ = 0;
};

}  // namespace

std::string writeChunks(const std::string& path, const std::vector<FileChunk>& chunks) {
  HashedFile file(path);
  for (const auto& chunk : chunks) {
    file.write(chunk.bytes.data(), chunk.bytes.size());
    if (chunk.tensor.defined()) file.write(chunk.tensor);
  }
  return file.finish();
}

std::vector<uint32_t> checksums(const std::vector<at::Tensor>& tensors) {
  std::vector<uint32_t> result;
  for (const auto& tensor : tensors) {
    // On the CPU, contiguous: the bytes as they stand in a file.
    const at::Tensor bytes = tensor.detach().to(at::kCPU).contiguous();
    result.push_back(bytes.nbytes() > 0 ? crc32(bytes.const_data_ptr(), bytes.nbytes()) : 0);
  }
  return result;
}

}  // namespace fornax
