#include "train/kernels/cpu_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

namespace fornax {

namespace {

constexpr const char* kOneDnnOperator = "mkldnn::_linear_pointwise";

// Below, oneDNN's preparation of a product costs more than it gains (measured: the two meet at about 0.7
// million).
constexpr int64_t kSmallestProduct = 1'000'000;

// input · weightᵀ + bias
at::Tensor oneDnnLinear(const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(kOneDnnOperator, "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                            c10::string_view, c10::List<std::optional<at::Scalar>>,
                            std::optional<c10::string_view>)>();
  return op.call(input, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->save_for_backward({input, weight});
    context->saved_data["bias"] = bias.has_value();
    return oneDnnLinear(input, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& input = saved[0];
    const at::Tensor& weight = saved[1];
    const bool has_bias = context->saved_data["bias"].toBool();
    const at::Tensor gradient = gradients[0].reshape({-1, weight.size(0)});
    at::Tensor of_input, of_weight, of_bias;
    if (context->needs_input_grad(0)) {
      of_input = oneDnnLinear(gradient, weight.t(), std::nullopt).reshape(input.sizes());
    }
    if (context->needs_input_grad(1)) {
      of_weight = oneDnnLinear(gradient.t(), input.reshape({-1, weight.size(1)}).t(), std::nullopt);
    }
    if (has_bias && context->needs_input_grad(2)) of_bias = gradient.sum(0);
    return {of_input, of_weight, of_bias};
  }
};

at::Tensor cpuLinear(const at::Tensor& input, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias) {
  const bool suits = input.is_cpu() && input.scalar_type() == at::kFloat &&
                     weight.scalar_type() == at::kFloat && weight.dim() == 2 &&
                     input.numel() * weight.size(0) >= kSmallestProduct;
  return suits ? LinearFunction::apply(input, weight, bias) : at::linear(input, weight, bias);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def("cpu_linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor", cpuLinear);
}

bool cpuLinearGains() {
#if defined(__x86_64__)
  static const bool gains = __builtin_cpu_supports("avx512f") && !__builtin_cpu_is("intel") &&
                            c10::Dispatcher::singleton().findSchema({kOneDnnOperator, ""}).has_value();
  return gains;
#else
  return false;
#endif
}

}  // namespace fornax
