#include "train/kernels/global_pool.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace fornax {

namespace {

class GlobalPoolFunction : public torch::autograd::Function<GlobalPoolFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->saved_data["sizes"] = input.sizes().vec();
    context->saved_data["channels_last"] = input.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
    return at::adaptive_avg_pool2d(input, {1, 1});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const std::vector<int64_t> sizes = context->saved_data["sizes"].toIntVector();
    const auto format = context->saved_data["channels_last"].toBool() ? at::MemoryFormat::ChannelsLast
                                                                      : at::MemoryFormat::Contiguous;
    const double pixels = static_cast<double>(sizes[2] * sizes[3]);
    const at::Tensor share = gradients[0] / pixels;
    return {at::empty(sizes, share.options(), format).copy_(share.expand(sizes))};
  }
};

at::Tensor globalPool(const at::Tensor& input) {
  return input.dim() == 4 ? GlobalPoolFunction::apply(input) : at::adaptive_avg_pool2d(input, {1, 1});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def("global_avg_pool(Tensor input) -> Tensor", globalPool);
}

}  // namespace fornax
