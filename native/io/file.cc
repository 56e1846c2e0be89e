#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace fornax {

File::File(const std::string& path, int flags)
    : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
  if (fd_ < 0) fail("cannot open the file");
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

int64_t File::size() {
  struct stat info{};
  if (::fstat(fd_, &info) != 0) fail("cannot examine the file");
  return info.st_size;
}

void File::read(void* data, size_t size, int64_t offset) {
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

void File::write(const void* data, size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    ssize_t count = ::write(fd_, bytes, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("cannot write the file");
    bytes += count, size -= static_cast<size_t>(count);
  }
}

void File::finish() {
  if (::fsync(fd_) != 0) fail("cannot write the file to disk");
  int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0) fail("cannot close the file");
}

void File::fail(const std::string& what) const {
  int code = errno;
  throw Error(ErrorKind::Weights, what + ": " + std::strerror(code), path_,
              code == ENOSPC ? "free some space on the disk" : "");
}

}  // namespace fornax
