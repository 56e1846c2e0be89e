// Memory of batches, handed out again once nobody else refers to it: fresh pages are zeroed by the kernel one
// fault at a time, which for float images costs more than filling them. Not thread-safe: the loader's lock
// guards it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace fornax {

struct BatchBuffers {
  at::Tensor image;  // [batch, height, width, channels], uint8 or float32
  at::Tensor label;  // int64 [batch]
  at::Tensor index;  // int64 [batch]
};

class BatchPool {
 public:
  // Keeps at most `capacity` sets; what is needed beyond that is allocated and forgotten. `pin`: page-locked
  // memory, for copies to a GPU that do not block.
  BatchPool(std::vector<int64_t> image_shape, at::ScalarType image_type, size_t capacity, bool pin)
      : image_shape_(std::move(image_shape)), image_type_(image_type), capacity_(capacity), pin_(pin) {}

  BatchBuffers take();

 private:
  BatchBuffers allocate() const;

  std::vector<int64_t> image_shape_;
  at::ScalarType image_type_;
  size_t capacity_;
  bool pin_;
  std::vector<BatchBuffers> sets_;
};

}  // namespace fornax
