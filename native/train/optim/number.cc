#include "train/optim/number.h"

#include <ATen/ATen.h>

namespace fornax {

namespace {

using Tensors = std::vector<at::Tensor>;

// In the type of the tensors: CUDA's multi-tensor operators want that of a scalar, too.
at::Tensor scalarFor(const Tensors& tensors, const at::Tensor& number) {
  return number.to(tensors.front().scalar_type());
}

// 1 − keep, for each of them.
Tensors sharesOf(const Tensors& tensors, const Number& keep) {
  return Tensors(tensors.size(), scalarFor(tensors, 1 - keep.tensor(tensors.front())));
}

}  // namespace

at::Tensor Number::tensor(const at::Tensor& like) const {
  if (isOnDevice()) return on_device_;
  return at::full({}, value_, like.options().dtype(at::kDouble).requires_grad(false));
}

void scaleBy(const Tensors& tensors, const Number& factor) {
  if (!factor.isOnDevice()) return at::_foreach_mul_(tensors, factor.value());
  at::_foreach_mul_(tensors, scalarFor(tensors, factor.tensor(tensors.front())));
}

void averageIn(const Tensors& tensors, const Tensors& ends, const Number& keep) {
  if (!keep.isOnDevice()) return at::_foreach_lerp_(tensors, ends, 1 - keep.value());
  at::_foreach_lerp_(tensors, ends, sharesOf(tensors, keep));
}

Tensors averaged(const Tensors& tensors, const Tensors& ends, const Number& keep) {
  if (!keep.isOnDevice()) return at::_foreach_lerp(tensors, ends, 1 - keep.value());
  return at::_foreach_lerp(tensors, ends, sharesOf(tensors, keep));
}

void addScaled(const Tensors& tensors, const Tensors& others, const at::Tensor& factor) {
  const at::Tensor scalar = scalarFor(tensors, factor);
  if (scalar.is_cpu()) {
    // In one pass over each.
    at::_foreach_addcmul_(tensors, others, Tensors(tensors.size(), scalar), 1);
  } else {
    // All at once: multi-tensor kernels take a scalar for all in a product, not in a sum of products.
    at::_foreach_add_(tensors, at::_foreach_mul(others, scalar));
  }
}

void addQuotients(const Tensors& tensors, const Tensors& numerators, const Tensors& denominators,
                  const Number& factor) {
  if (!factor.isOnDevice()) return at::_foreach_addcdiv_(tensors, numerators, denominators, factor.value());
  const at::Tensor scalar = scalarFor(tensors, factor.tensor(tensors.front()));
  at::_foreach_addcdiv_(tensors, at::_foreach_mul(numerators, scalar), denominators, 1);
}

Tensors ahead(const Tensors& gradients, const Tensors& buffers, const Number& momentum) {
  Tensors result = momentum.isOnDevice()
                       ? at::_foreach_mul(buffers, scalarFor(buffers, momentum.tensor(buffers.front())))
                       : at::_foreach_mul(buffers, momentum.value());
  at::_foreach_add_(result, gradients, 1);
  return result;
}

}  // namespace fornax
