#include "train/kernels/gate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "train/kernels/gate_kernels.h"

namespace fornax {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Values that are worth a thread of their own.
constexpr int64_t kSmallestPiece = 16 * 1024;

Element elementOf(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? Element::Float32 : Element::BFloat16;
}

bool liesInRows(const at::Tensor& x) {
  const bool element = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return x.is_cpu() && element && x.dim() == 4 && x.numel() > 0 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

// One value for each channel of each sample.
at::Tensor perChannel(const at::Tensor& values) {
  return values.reshape({values.size(0), values.size(1)}).contiguous();
}

// Whether nobody but the caller holds the memory of a gradient that it was given and has made dense.
bool isOurs(const at::Tensor& dense, const at::Tensor& given) {
  return !dense.is_same(given) || (dense.use_count() <= 2 && dense.storage().use_count() == 1);
}

// work(sample, offset of its values in memory, offset of its channels), on all threads: each sample is one
// thread's, so that results do not depend on them.
template <typename Work>
void overSamples(const at::Tensor& x, const Work& work) {
  const int64_t channels = x.size(1), values = x.numel() / x.size(0);
  at::parallel_for(0, x.size(0), std::max<int64_t>(kSmallestPiece / values, 1),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t n = begin; n < end; ++n) work(n * values, n * channels);
                   });
}

GateShape shapeOf(const at::Tensor& x) {
  return {x.size(2) * x.size(3), x.size(1)};
}

char* bytesAt(const at::Tensor& tensor, int64_t offset) {
  return static_cast<char*>(tensor.data_ptr()) + offset * static_cast<int64_t>(tensor.element_size());
}

class GateFunction : public torch::autograd::Function<GateFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& x) {
    const at::Tensor factors = perChannel(gate);
    const at::Tensor y = at::empty_like(x, x.options().requires_grad(false), at::MemoryFormat::ChannelsLast);
    overSamples(x, [&](int64_t value, int64_t channel) {
      gateKernels().multiply(shapeOf(x), elementOf(x), bytesAt(x, value), bytesAt(factors, channel),
                             bytesAt(y, value));
    });
    context->save_for_backward({gate, x});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &x = saved[1];
    const at::Tensor factors = perChannel(gate);
    const at::Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor dx =
        isOurs(dy, gradients[0]) ? dy : at::empty_like(dy, dy.options(), at::MemoryFormat::ChannelsLast);
    const at::Tensor sums = at::empty(factors.sizes(), factors.options().dtype(at::kFloat));
    overSamples(x, [&](int64_t value, int64_t channel) {
      std::vector<float> block(x.size(1));
      gateKernels().gradients(shapeOf(x), elementOf(x), bytesAt(x, value), bytesAt(factors, channel),
                              bytesAt(dy, value), bytesAt(dx, value),
                              sums.mutable_data_ptr<float>() + channel, block.data());
    });
    return {sums.to(gate.scalar_type()).view(gate.sizes()), dx};
  }
};

at::Tensor gated(const at::Tensor& gate, const at::Tensor& x) {
  const bool fits = liesInRows(x) && gate.is_cpu() && gate.scalar_type() == x.scalar_type() &&
                    gate.dim() == 4 && gate.size(0) == x.size(0) && gate.size(1) == x.size(1) &&
                    gate.size(2) == 1 && gate.size(3) == 1;
  return fits ? GateFunction::apply(gate, x) : at::mul(gate, x);
}

class PoolThroughFunction : public torch::autograd::Function<PoolThroughFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->saved_data["pixels"] = x.size(2) * x.size(3);
    context->saved_data["sizes"] = x.sizes().vec();
    context->set_materialize_grads(false);
    return {x.detach(), at::adaptive_avg_pool2d(x, {1, 1})};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor &through = gradients[0], &of_means = gradients[1];
    const double pixels = static_cast<double>(context->saved_data["pixels"].toInt());
    if (!of_means.defined()) return {through};
    const at::Tensor share = of_means / pixels;
    if (!through.defined()) {
      const std::vector<int64_t> sizes = context->saved_data["sizes"].toIntVector();
      return {at::empty(sizes, share.options(), at::MemoryFormat::ChannelsLast).copy_(share.expand(sizes))};
    }
    if (!liesInRows(through) || share.scalar_type() != through.scalar_type()) return {through + share};
    const at::Tensor dx = isOurs(through, through) ? through : through.clone();
    const at::Tensor added = perChannel(share);
    overSamples(dx, [&](int64_t value, int64_t channel) {
      gateKernels().add(shapeOf(dx), elementOf(dx), bytesAt(added, channel), bytesAt(dx, value));
    });
    return {dx};
  }
};

std::tuple<at::Tensor, at::Tensor> poolThrough(const at::Tensor& x) {
  if (!liesInRows(x)) return {x, at::adaptive_avg_pool2d(x, {1, 1})};
  const variable_list results = PoolThroughFunction::apply(x);
  return {results[0], results[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def("gate(Tensor gate, Tensor x) -> Tensor", gated);
  library.def("pool_through(Tensor x) -> (Tensor, Tensor)", poolThrough);
}

}  // namespace fornax
