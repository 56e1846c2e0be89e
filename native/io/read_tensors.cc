#include "io/read_tensors.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "io/file.h"

namespace fornax {

namespace {

int64_t elementSize(const TensorRange& range) {
  return static_cast<int64_t>(c10::elementSize(range.dtype));
}

// Reads one tensor of a file into another tensor.
class Reader {
 public:
  Reader(File& file, const TensorRange& range) : file_(file), range_(range), element_(elementSize(range)) {
    strides_ = range.strides;
    if (strides_.empty()) {
      auto row_major = c10::contiguous_strides(range.shape);
      strides_.assign(row_major.begin(), row_major.end());
    }
  }

  void fill(const at::Tensor& target) {
    if (target.numel() == 0) return;
    bool same_form = range_.strides.empty() && !range_.big_endian && target.is_cpu() &&
                     target.is_contiguous() && target.scalar_type() == range_.dtype;
    if (same_form) {
      file_.read(target.mutable_data_ptr(), static_cast<size_t>(range_.length), range_.offset);
    } else {
      copyBlock(target, range_.shape, range_.offset);
    }
  }

 private:
  static constexpr int64_t kBuffer = 4 << 20;  // bytes

  // The block of `shape` whose first element lies at `offset`: if it spans more than the buffer, its
  // dimension of the widest stride is halved.
  void copyBlock(const at::Tensor& target, const std::vector<int64_t>& shape, int64_t offset) {
    int64_t span = 1;
    size_t widest = shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      span += (shape[i] - 1) * strides_[i];
      bool splits = shape[i] > 1 && strides_[i] > 0;
      if (splits && (widest == shape.size() || strides_[i] > strides_[widest])) widest = i;
    }
    if (span * element_ <= kBuffer) {
      copySpan(target, shape, offset, span * element_);
      return;
    }
    auto dim = static_cast<int64_t>(widest);
    int64_t half = shape[widest] / 2;
    std::vector<int64_t> part = shape;
    part[widest] = half;
    copyBlock(target.narrow(dim, 0, half), part, offset);
    part[widest] = shape[widest] - half;
    copyBlock(target.narrow(dim, half, part[widest]), part, offset + half * strides_[widest] * element_);
  }

  void copySpan(const at::Tensor& target, const std::vector<int64_t>& shape, int64_t offset, int64_t bytes) {
    if (static_cast<int64_t>(buffer_.size()) < bytes) buffer_.resize(static_cast<size_t>(bytes));
    file_.read(buffer_.data(), static_cast<size_t>(bytes), offset);
    if (range_.big_endian) {
      for (auto at = buffer_.begin(); at != buffer_.begin() + bytes; at += element_) {
        std::reverse(at, at + element_);
      }
    }
    target.copy_(at::from_blob(buffer_.data(), shape, strides_, at::TensorOptions(range_.dtype)));
  }

  File& file_;
  const TensorRange& range_;
  std::vector<int64_t> strides_;
  int64_t element_;
  std::vector<char> buffer_;
};

// Shape, strides, dtype and length agree, and lie within the file.
void check(const TensorRange& range, const std::string& path, int64_t file_size) {
  std::string where = path + ", tensor '" + range.name + "'";
  auto multiply = [&](int64_t a, int64_t b) {
    if (a < 0 || b < 0 || (b > 0 && a > std::numeric_limits<int64_t>::max() / b)) {
      throw Error(ErrorKind::Weights, "the shape has a negative or too large size", where);
    }
    return a * b;
  };
  int64_t elements = 1;
  for (int64_t size : range.shape) elements = multiply(elements, size);
  if (!range.strides.empty() && elements > 0) {
    if (range.strides.size() != range.shape.size()) {
      throw Error(ErrorKind::Weights, "shape and strides do not agree", where);
    }
    elements = 1;
    for (size_t i = 0; i < range.shape.size(); ++i) {
      int64_t step = multiply(range.shape[i] - 1, range.strides[i]);
      if (step > std::numeric_limits<int64_t>::max() - elements) {
        throw Error(ErrorKind::Weights, "the strides are too large", where);
      }
      elements += step;
    }
  }
  if (multiply(elements, elementSize(range)) != range.length) {
    throw Error(ErrorKind::Weights, "shape, dtype and length do not agree", where);
  }
  if (range.offset < 0 || range.offset > file_size || range.length > file_size - range.offset) {
    throw Error(ErrorKind::Weights, "the tensor lies outside the file", where,
                "the file is truncated: get it again");
  }
}

}  // namespace

std::vector<at::Tensor> readTensors(const std::string& path, const std::vector<TensorRange>& ranges) {
  File file(path, O_RDONLY);
  int64_t size = file.size();
  // Nothing is allocated for ranges that the file does not have.
  for (const auto& range : ranges) check(range, path, size);
  std::vector<at::Tensor> tensors;
  tensors.reserve(ranges.size());
  for (const auto& range : ranges) {
    tensors.push_back(at::empty(range.shape, at::TensorOptions(range.dtype)));
    Reader(file, range).fill(tensors.back());
  }
  return tensors;
}

void readTensorsInto(const std::string& path, const std::vector<TensorRange>& ranges,
                     const std::vector<at::Tensor>& targets) {
  TORCH_CHECK(ranges.size() == targets.size(), "readTensorsInto: one target for each range");
  File file(path, O_RDONLY);
  int64_t size = file.size();
  for (size_t i = 0; i < ranges.size(); ++i) {
    check(ranges[i], path, size);
    TORCH_CHECK(targets[i].sizes() == at::IntArrayRef(ranges[i].shape), "readTensorsInto: shape of ",
                ranges[i].name);
  }
  c10::NoGradGuard no_grad;
  for (size_t i = 0; i < ranges.size(); ++i) Reader(file, ranges[i]).fill(targets[i].detach());
}

}  // namespace fornax
