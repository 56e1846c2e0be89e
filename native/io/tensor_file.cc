#include "io/tensor_file.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/sha256.h"

namespace fornax {

namespace {

class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail("cannot open the file");
  }
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int64_t size() {
    struct stat info{};
    if (::fstat(fd_, &info) != 0) fail("cannot examine the file");
    return info.st_size;
  }

  void read(void* data, size_t size, int64_t offset) {
    auto* bytes = static_cast<char*>(data);
    while (size > 0) {
      ssize_t count = ::pread(fd_, bytes, size, offset);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot read the file");
      if (count == 0)
        throw Error(ErrorKind::Weights, "the file ends too early", path_, "it is truncated: get it again");
      bytes += count, offset += count, size -= static_cast<size_t>(count);
    }
  }

  void write(const void* data, size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    while (size > 0) {
      ssize_t count = ::write(fd_, bytes, size);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail("cannot write the file");
      bytes += count, size -= static_cast<size_t>(count);
    }
  }

  void finish() {
    if (::fsync(fd_) != 0) fail("cannot write the file to disk");
    int fd = fd_;
    fd_ = -1;
    if (::close(fd) != 0) fail("cannot close the file");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    int code = errno;
    throw Error(ErrorKind::Weights, what + ": " + std::strerror(code), path_,
                code == ENOSPC ? "free some space on the disk" : "");
  }

  std::string path_;
  int fd_;
};

}  // namespace

std::vector<at::Tensor> readTensors(const std::string& path, const std::vector<TensorRange>& ranges) {
  File file(path, O_RDONLY);
  int64_t size = file.size();
  for (const auto& range : ranges) {
    std::string where = path + ", tensor '" + range.name + "'";
    int64_t bytes = static_cast<int64_t>(c10::elementSize(range.dtype));
    for (int64_t length : range.shape) {
      if (length < 0 || (length > 0 && bytes > std::numeric_limits<int64_t>::max() / length)) {
        throw Error(ErrorKind::Weights, "the shape has a negative or too large size", where);
      }
      bytes *= length;
    }
    if (bytes != range.length) throw Error(ErrorKind::Weights, "shape, dtype and length do not agree", where);
    if (range.offset < 0 || range.offset > size || range.length > size - range.offset) {
      throw Error(ErrorKind::Weights, "the tensor lies outside the file", where,
                  "the file is truncated: get it again");
    }
  }
  std::vector<at::Tensor> tensors;
  tensors.reserve(ranges.size());
  for (const auto& range : ranges) {
    at::Tensor tensor = at::empty(range.shape, at::TensorOptions(range.dtype));
    if (range.length > 0)
      file.read(tensor.mutable_data_ptr(), static_cast<size_t>(range.length), range.offset);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::string writeTensors(const std::string& path, const std::string& header,
                         const std::vector<at::Tensor>& tensors) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC);
  Sha256 digest;
  auto put = [&](const void* data, size_t size) {
    digest.update(data, size);
    file.write(data, size);
  };
  put(header.data(), header.size());
  for (const auto& tensor : tensors) {
    at::Tensor bytes = tensor.detach().to(at::kCPU).contiguous();
    if (bytes.nbytes() > 0) put(bytes.const_data_ptr(), bytes.nbytes());
  }
  file.finish();
  return digest.finish();
}

}  // namespace fornax
