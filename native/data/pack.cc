#include "data/pack.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace fornax {

namespace {

constexpr const char* kRebuild = "delete the pack and prepare the data again";

[[noreturn]] void fail(const std::string& what, const std::string& where, const char* fix = kRebuild) {
  throw Error(ErrorKind::Data, what, where, fix);
}

std::string shapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) fail(std::string("cannot open a shard of the pack: ") + std::strerror(errno), path);
  struct stat info{};
  std::string reason;
  if (::fstat(file_, &info) != 0) {
    reason = std::strerror(errno);
  } else if (!S_ISREG(info.st_mode)) {
    reason = "it is not a regular file";
  } else if (info.st_size == 0) {
    reason = "it is empty";
  } else {
    size_ = info.st_size;
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_, 0);
    if (data != MAP_FAILED) {
      data_ = static_cast<uint8_t*>(data);
      return;
    }
    reason = std::strerror(errno);
  }
  ::close(file_);
  fail("cannot map a shard of the pack: " + reason, path);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
  if (file_ >= 0) ::close(file_);
}

void MappedFile::checkUnchanged() const {
  struct stat info{};
  if (::fstat(file_, &info) != 0) fail(std::string("cannot look at a shard: ") + std::strerror(errno), path_);
  if (info.st_size < size_) {
    fail("the shard was truncated while in use: " + std::to_string(info.st_size) + " bytes are left of " +
             std::to_string(size_),
         path_, "prepare the data again, and let nothing rewrite a pack in place while it is read");
  }
}

// A pointer to the field's first element, after checking that it lies inside its file, is aligned and has the
// dtype and shape expected (-1: any length).
const uint8_t* Pack::open(const PackField& field, const char* name, const char* dtype, int64_t element,
                          const std::vector<int64_t>& shape) {
  const std::string where = field.path + ", field '" + name + "'";
  if (field.dtype != dtype) fail(std::string("expected ") + dtype + ", found " + field.dtype, where);
  bool fits = field.shape.size() == shape.size();
  int64_t elements = 1;
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = field.shape[i] >= 0 && (shape[i] < 0 || field.shape[i] == shape[i]);
    if (fits && __builtin_mul_overflow(elements, field.shape[i], &elements)) fits = false;
  }
  if (!fits) fail("expected shape " + shapeText(shape) + ", found " + shapeText(field.shape), where);

  const MappedFile* file = nullptr;
  for (const auto& known : files_) {
    if (known->path() == field.path) file = known.get();
  }
  if (!file) file = files_.emplace_back(std::make_unique<MappedFile>(field.path)).get();
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements, element, &bytes) || field.offset < 0 || field.offset > file->size() ||
      bytes > file->size() - field.offset) {
    fail("the field does not lie inside the file: offset " + std::to_string(field.offset) + ", " +
             std::to_string(elements) + " elements of " + std::to_string(element) + " bytes, file of " +
             std::to_string(file->size()) + " bytes",
         where);
  }
  if (field.offset % element != 0) {
    fail("offset " + std::to_string(field.offset) + " is not a multiple of " + std::to_string(element),
         where);
  }
  return file->data() + field.offset;
}

Pack::Pack(const std::vector<PackShard>& shards, int channels) {
  if (shards.empty()) fail("the pack has no shards", "loader options, shards");
  first_.push_back(0);
  for (const PackShard& told : shards) {
    Shard shard;
    const int64_t n = told.labels.shape.size() == 1 ? told.labels.shape[0] : -1;
    const auto* labels = reinterpret_cast<const int64_t*>(open(told.labels, "labels", "int64", 8, {-1}));
    const auto* sizes = reinterpret_cast<const int32_t*>(open(told.sizes, "sizes", "int32", 4, {n, 2}));
    const auto* offsets =
        reinterpret_cast<const int64_t*>(open(told.offsets, "offsets", "int64", 8, {n + 1}));
    shard.labels.assign(labels, labels + n);
    shard.sizes.assign(sizes, sizes + 2 * n);
    shard.offsets.assign(offsets, offsets + n + 1);
    shard.pixels = open(told.pixels, "pixels", "uint8", 1, {-1});
    shard.path = told.pixels.path;
    const int64_t extent = told.pixels.shape[0];
    for (int64_t i = 0; i < n; ++i) {
      const int64_t begin = shard.offsets[i], end = shard.offsets[i + 1];
      const int64_t height = shard.sizes[2 * i], width = shard.sizes[2 * i + 1];
      if (height < 1 || width < 1) {
        fail("size " + std::to_string(height) + "×" + std::to_string(width) + " is not positive",
             told.sizes.path + ", field 'sizes', image " + std::to_string(i));
      }
      if (begin < 0 || end < begin || end > extent) {
        fail("bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                 " do not lie in order inside the " + std::to_string(extent) + " bytes of pixels",
             told.offsets.path + ", field 'offsets', image " + std::to_string(i));
      }
      // Both factors fit into 31 bits; times three that is below 2^64.
      if (static_cast<uint64_t>(height) * static_cast<uint64_t>(width) * channels !=
          static_cast<uint64_t>(end - begin)) {
        fail("an image of " + std::to_string(height) + "×" + std::to_string(width) + "×" +
                 std::to_string(channels) + " does not take " + std::to_string(end - begin) + " bytes",
             told.offsets.path + ", fields 'offsets' and 'sizes', image " + std::to_string(i));
      }
    }
    shards_.push_back(std::move(shard));
    first_.push_back(first_.back() + n);
  }
  if (size() == 0) fail("the pack holds no samples", shards.front().labels.path);
  // Random numbers are keyed by 32 bits of the index.
  if (size() > std::numeric_limits<int32_t>::max())
    fail("a pack holds at most 2^31 − 1 samples", "shards", "split it");
  readAhead();
}

void Pack::readAhead() {
  // Asking for more than this at once would keep the caller waiting for the disk.
  constexpr int64_t kMost = int64_t{1} << 30;
  int64_t total = 0;
  for (const auto& file : files_) total += file->size();
  const int64_t memory = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  resident_ = total <= std::min(kMost, memory / 4);
  if (!resident_) return;
  // Hints only: a file system that does not take them reads on demand.
  for (const auto& file : files_)
    (void)::madvise(const_cast<uint8_t*>(file->data()), file->size(), MADV_WILLNEED);
}

void Pack::willNeed(int64_t sample) const {
  if (resident_) return;
  const size_t s = shardOf(sample);
  const int64_t* offsets = shards_[s].offsets.data() + (sample - first_[s]);
  const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(shards_[s].pixels + offsets[0]) & ~(page - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(shards_[s].pixels + offsets[1]);
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

void Pack::checkUnchanged() const {
  for (const auto& file : files_) file->checkUnchanged();
}

size_t Pack::shardOf(int64_t sample) const {
  return std::upper_bound(first_.begin(), first_.end(), sample) - first_.begin() - 1;
}

Pack::Image Pack::image(int64_t sample) const {
  const size_t s = shardOf(sample);
  const Shard& shard = shards_[s];
  const int64_t i = sample - first_[s];
  return {shard.pixels + shard.offsets[i], shard.sizes[2 * i], shard.sizes[2 * i + 1]};
}

int64_t Pack::label(int64_t sample) const {
  const size_t s = shardOf(sample);
  return shards_[s].labels[sample - first_[s]];
}

std::string Pack::describe(int64_t sample) const {
  const size_t s = shardOf(sample);
  return shards_[s].path + ", image " + std::to_string(sample - first_[s]);
}

}  // namespace fornax
