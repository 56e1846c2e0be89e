// A file read and written by plain system calls. Errors are WeightsErrors that name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace fornax {

class File {
 public:
  // `flags` as of open(2). A created file is readable by all.
  File(const std::string& path, int flags);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int64_t size();
  // Exactly `size` bytes from `offset`; a file that ends before is an error.
  void read(void* data, size_t size, int64_t offset);
  void write(const void* data, size_t size);
  // Flushes to the disk and closes.
  void finish();

 private:
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_;
  int fd_;
};

}  // namespace fornax
