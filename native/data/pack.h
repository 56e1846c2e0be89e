// A pack: decoded samples in shard files that are mapped into memory, read-only. Where each field lies is
// told by the caller (src/data writes the files and reads their headers); everything told is checked against
// the files before a byte is used. Offsets, sizes and labels are copied and checked once, so that reads need
// no checks.
//
// A mapped file that is truncated by someone else would raise SIGBUS on access, and no check can rule that
// out between check and access. checkUnchanged() compares the files' sizes with those at mapping time; the
// loader calls it at the start of every epoch and of every batch, so that a shrunken pack is a DataError in
// practice. Replacing a pack by rename is always safe: the open descriptor keeps the old file alive.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace fornax {

struct PackField {
  std::string path;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // bytes from the start of the file
};

struct PackShard {
  PackField pixels;   // uint8 [bytes]
  PackField offsets;  // int64 [n + 1], into pixels
  PackField sizes;    // int32 [n, 2]: height, width
  PackField labels;   // int64 [n]
};

// One file, mapped whole and shared, read-only.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // DataError
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  void checkUnchanged() const;  // DataError if the file is shorter than it was

 private:
  std::string path_;
  int file_ = -1;
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

class Pack {
 public:
  // DataError naming file and field.
  Pack(const std::vector<PackShard>& shards, int channels);

  struct Image {
    const uint8_t* pixels;  // [height, width, channels]
    int64_t height, width;
  };

  int64_t size() const { return first_.back(); }
  Image image(int64_t sample) const;
  int64_t label(int64_t sample) const;
  // Where a sample lies, for messages: "file, image 12".
  std::string describe(int64_t sample) const;

  void checkUnchanged() const;

  // Tells the kernel that these pixels will be read soon. Does nothing for packs that were small enough to be
  // asked for as a whole.
  void willNeed(int64_t sample) const;

 private:
  struct Shard {
    const uint8_t* pixels;
    // Copies, so that what was checked is what is used, whatever happens to the file.
    std::vector<int64_t> offsets;
    std::vector<int32_t> sizes;
    std::vector<int64_t> labels;
    std::string path;
  };

  const uint8_t* open(const PackField& field, const char* name, const char* dtype, int64_t element,
                      const std::vector<int64_t>& shape);
  void readAhead();
  size_t shardOf(int64_t sample) const;

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<Shard> shards_;
  std::vector<int64_t> first_;  // global index of each shard's first sample; then the total
  bool resident_ = false;
};

}  // namespace fornax
