#include "data/batch_buffers.h"

#include <ATen/ATen.h>

namespace fornax {

namespace {
// Views share the storage, so its count covers every tensor that still shows this memory.
bool unused(const at::Tensor& tensor) {
  return tensor.storage().use_count() == 1 && tensor.use_count() == 1;
}
}  // namespace

BatchBuffers BatchPool::allocate() const {
  const auto labels = at::TensorOptions().dtype(at::kLong).pinned_memory(pin_);
  return {at::empty(image_shape_, at::TensorOptions().dtype(image_type_).pinned_memory(pin_)),
          at::empty({image_shape_[0]}, labels), at::empty({image_shape_[0]}, labels)};
}

BatchBuffers BatchPool::take() {
  for (const BatchBuffers& set : sets_) {
    if (unused(set.image) && unused(set.label) && unused(set.index)) return set;
  }
  BatchBuffers fresh = allocate();
  if (sets_.size() < capacity_) sets_.push_back(fresh);
  return fresh;
}

}  // namespace fornax
