#include "train/kernels/batch_norm_act.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "graph/batch_norm.h"
#include "train/kernels/channel_sums.h"

namespace fornax {

namespace {

using OptionalTensor = std::optional<at::Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor orUndefined(const OptionalTensor& tensor) {
  return tensor.value_or(at::Tensor());
}

// Up to here a derivative that is written and read again costs less than computing it twice.
constexpr int64_t kCachedValues = 4 << 20;

bool isElement(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16;
}

Element elementOf(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? Element::Float32 : Element::BFloat16;
}

// The values of all channels of a pixel lie side by side, and the pixels one after the other.
bool liesInRows(const at::Tensor& x) {
  if (x.dim() == 2) return x.is_contiguous();
  return x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor inRows(const at::Tensor& x) {
  return x.contiguous(x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

at::Tensor emptyInRows(const at::Tensor& like, at::ScalarType type) {
  return at::empty(like.sizes(), like.options().dtype(type).requires_grad(false),
                   like.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

bool isPerChannel(const at::Tensor& values, int64_t channels) {
  return !values.defined() ||
         (values.scalar_type() == at::kFloat && values.is_contiguous() && values.numel() == channels);
}

const float* floats(const at::Tensor& values) {
  return values.defined() ? values.const_data_ptr<float>() : nullptr;
}

struct Settings {
  BatchNormStep step;
  at::Tensor running_mean, running_var;  // both or neither
  double eps;
  Activation activation;
  at::ScalarType out;
};

// What the function computes with, per channel, and what backward needs of it.
enum Row { kMean, kInverse, kScale, kShift, kRows };

// Mean and variance, of the batch or the running ones, and with them scale and shift. [kRows, C]
at::Tensor normalization(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const Settings& settings) {
  const at::Tensor &running_mean = settings.running_mean, &running_var = settings.running_var;
  const int64_t channels = x.size(1);
  const at::Tensor result = at::empty({kRows, channels}, at::kFloat);
  float* const mean = result.mutable_data_ptr<float>();
  float *const inverse = mean + kInverse * channels, *const scale = mean + kScale * channels,
               *const shift = mean + kShift * channels;
  std::vector<double> moments;
  const auto count = static_cast<double>(x.numel() / channels);
  if (settings.step.training) moments = channelMoments(x, elementOf(x));
  float* moved_mean = settings.step.moves ? running_mean.mutable_data_ptr<float>() : nullptr;
  float* moved_var = settings.step.moves ? running_var.mutable_data_ptr<float>() : nullptr;
  const double factor = settings.step.factor;
  for (int64_t c = 0; c < channels; ++c) {
    double average, variance;
    if (settings.step.training) {
      average = moments[c];
      variance = moments[channels + c];
      if (moved_mean != nullptr) {
        const double unbiased = variance * count / (count - 1);
        moved_mean[c] = static_cast<float>((1 - factor) * moved_mean[c] + factor * average);
        moved_var[c] = static_cast<float>((1 - factor) * moved_var[c] + factor * unbiased);
      }
    } else {
      average = running_mean.const_data_ptr<float>()[c];
      variance = running_var.const_data_ptr<float>()[c];
    }
    const double deviation = 1.0 / std::sqrt(variance + settings.eps);
    const double factor_of_x = weight.defined() ? deviation * floats(weight)[c] : deviation;
    mean[c] = static_cast<float>(average);
    inverse[c] = static_cast<float>(deviation);
    scale[c] = static_cast<float>(factor_of_x);
    shift[c] = static_cast<float>((bias.defined() ? floats(bias)[c] : 0.0) - average * factor_of_x);
  }
  return result;
}

class BatchNormActFunction : public torch::autograd::Function<BatchNormActFunction> {
 public:
  // Undefined tensors are passed as nullopt: autograd takes no others.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const OptionalTensor& weight,
                            const OptionalTensor& bias, const OptionalTensor& added,
                            const Settings& settings) {
    const at::Tensor residual = orUndefined(added);
    const at::Tensor constants = normalization(x, orUndefined(weight), orUndefined(bias), settings);
    const at::Tensor y = emptyInRows(x, settings.out);
    const RowPeriod period(x.size(1));
    const PeriodicConstants repeated(constants, period, {kScale, kShift});
    const NormConstants norm{repeated[0], repeated[1]};
    const Activation& activation = settings.activation;
    const RowPieces pieces(x, period);
    pieces.forEach([&](int64_t, const RowPiece& piece) {
      rowKernels().apply(piece.rows, activation, elementOf(x), elementOf(y), piece.of(x), piece.of(residual),
                         norm, piece.of(y));
    });
    const bool from_result = residual.defined() && activation.kind != ActivationKind::None;
    context->save_for_backward({x, from_result ? y : at::Tensor(), constants});
    context->saved_data["training"] = settings.step.training;
    context->saved_data["weight"] = weight.has_value();
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["residual"] = added.has_value();
    context->saved_data["activation"] = static_cast<int64_t>(activation.kind);
    context->saved_data["low"] = static_cast<double>(activation.low);
    context->saved_data["high"] = static_cast<double>(activation.high);
    return y;
  }

  // Ioffe & Szegedy 2015, section 3.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &y = saved[1], &constants = saved[2];
    Activation activation{static_cast<ActivationKind>(context->saved_data["activation"].toInt()),
                          static_cast<float>(context->saved_data["low"].toDouble()),
                          static_cast<float>(context->saved_data["high"].toDouble())};
    const bool training = context->saved_data["training"].toBool();
    const bool has_weight = context->saved_data["weight"].toBool();
    const bool has_bias = context->saved_data["bias"].toBool();
    const bool has_residual = context->saved_data["residual"].toBool();
    // Autograd numbers the inputs that are there.
    const bool wants_weight = has_weight && context->needs_input_grad(1);
    const bool wants_bias = has_bias && context->needs_input_grad(has_weight ? 2 : 1);
    const int64_t channels = x.size(1);
    const RowPeriod period(channels);
    const RowPieces pieces(x, period);

    at::Tensor dy = inRows(gradients[0]);
    // The memory of a gradient that nobody else reads serves for the next one.
    const bool ours = !dy.is_same(gradients[0]) || (dy.use_count() <= 2 && dy.storage().use_count() == 1);
    at::Tensor of_residual;
    std::vector<double> sums(2 * channels, 0.0);
    if (training || wants_weight || wants_bias || y.defined()) {
      at::Tensor masked;
      const bool costly =
          activation.kind == ActivationKind::Silu || activation.kind == ActivationKind::Hardswish;
      if (y.defined()) {
        // What was cut off is the bound as y holds it.
        if (activation.kind == ActivationKind::Clamp && y.scalar_type() == at::kBFloat16) {
          activation.low = static_cast<float>(c10::BFloat16(activation.low));
          activation.high = static_cast<float>(c10::BFloat16(activation.high));
        }
        masked = emptyInRows(dy, dy.scalar_type());
      } else if (costly && ours && dy.scalar_type() == at::kFloat && dy.numel() < kCachedValues) {
        masked = dy;
      }
      sums = gradientSums(pieces, activation, x, dy, y, constants, masked);
      if (masked.defined()) {
        dy = masked;
        activation = {};
      }
    }
    if (has_residual) of_residual = dy;

    at::Tensor of_x, of_weight, of_bias;
    const float* const values = constants.const_data_ptr<float>();
    if (context->needs_input_grad(0)) {
      const bool reusable = ours && !has_residual && dy.scalar_type() == x.scalar_type();
      of_x = reusable ? dy : emptyInRows(x, x.scalar_type());
      const at::Tensor factors = at::empty({3, channels}, at::kFloat);
      float* const factor = factors.mutable_data_ptr<float>();
      const auto count = static_cast<double>(x.numel() / channels);
      for (int64_t c = 0; c < channels; ++c) {
        const double scale = values[kScale * channels + c], inverse = values[kInverse * channels + c];
        const double of_deviation = training ? -scale * inverse * inverse * sums[channels + c] / count : 0.0;
        const double of_mean = training ? -scale * sums[c] / count : 0.0;
        factor[c] = static_cast<float>(scale);
        factor[channels + c] = static_cast<float>(of_deviation);
        factor[2 * channels + c] = static_cast<float>(of_mean - of_deviation * values[c]);
      }
      const PeriodicConstants norms(constants, period, {kScale, kShift});
      const PeriodicConstants repeated(factors, period, {0, 1, 2});
      pieces.forEach([&](int64_t, const RowPiece& piece) {
        rowKernels().gradientInput(piece.rows, activation, elementOf(x), elementOf(dy), piece.of(x),
                                   piece.of(dy), {norms[0], norms[1]}, repeated[0], repeated[1], repeated[2],
                                   piece.of(of_x));
      });
    }
    if (wants_weight) {
      of_weight = at::empty({channels}, at::kFloat);
      float* const to = of_weight.mutable_data_ptr<float>();
      for (int64_t c = 0; c < channels; ++c) {
        to[c] = static_cast<float>(sums[channels + c] * values[kInverse * channels + c]);
      }
    }
    if (wants_bias) {
      of_bias = at::empty({channels}, at::kFloat);
      std::copy(sums.begin(), sums.begin() + channels, of_bias.mutable_data_ptr<float>());
    }
    return {of_x, of_weight, of_bias, of_residual, at::Tensor()};
  }
};

at::Tensor activate(const at::Tensor& x, const Activation& activation) {
  switch (activation.kind) {
    case ActivationKind::Relu:
      return at::relu(x);
    case ActivationKind::Clamp:
      return at::hardtanh(x, activation.low, activation.high);
    case ActivationKind::LeakyRelu:
      return at::leaky_relu(x, activation.low);
    case ActivationKind::Silu:
      return at::silu(x);
    case ActivationKind::Hardswish:
      return at::hardswish(x);
    case ActivationKind::None:
      break;
  }
  return x;
}

// Whether the kernels can do it; otherwise the separate operators do.
bool fits(const at::Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
          const OptionalTensor& residual, const Settings& settings) {
  if (!x.is_cpu() || !isElement(x.scalar_type()) || !isElement(settings.out) || !liesInRows(x)) return false;
  const int64_t channels = x.size(1);
  if (x.numel() == 0 || settings.running_mean.defined() != settings.running_var.defined()) return false;
  for (const at::Tensor& values :
       {orUndefined(weight), orUndefined(bias), settings.running_mean, settings.running_var}) {
    if (!isPerChannel(values, channels)) return false;
  }
  if (!residual) return true;
  // The derivative is then taken from the result.
  const Activation& activation = settings.activation;
  if (activation.kind == ActivationKind::Silu || activation.kind == ActivationKind::Hardswish) return false;
  if (activation.kind == ActivationKind::LeakyRelu && !(activation.low > 0)) return false;
  return residual->is_cpu() && residual->scalar_type() == settings.out && residual->sizes() == x.sizes() &&
         liesInRows(*residual);
}

OptionalTensor present(const OptionalTensor& tensor) {
  return tensor && tensor->defined() ? tensor : std::nullopt;
}

at::Tensor batchNormAct(const at::Tensor& x, const OptionalTensor& weight_or_none,
                        const OptionalTensor& bias_or_none, const OptionalTensor& running_mean,
                        const OptionalTensor& running_var, const OptionalTensor& batches_tracked,
                        int64_t mode, std::optional<double> momentum, double eps,
                        const OptionalTensor& residual_or_none, c10::string_view activation, double low,
                        double high, std::optional<at::ScalarType> out_dtype) {
  const OptionalTensor weight = present(weight_or_none), bias = present(bias_or_none),
                       residual = present(residual_or_none);
  const auto kind = activationNamed({activation.data(), activation.size()});
  TORCH_CHECK(kind, "unknown activation '", activation, "'");
  Settings settings{beginBatchNorm(x, running_mean, batches_tracked, mode, momentum),
                    orUndefined(running_mean),
                    orUndefined(running_var),
                    eps,
                    {*kind, static_cast<float>(low), static_cast<float>(high)},
                    x.scalar_type()};
  if (residual) settings.out = c10::promoteTypes(settings.out, residual->scalar_type());
  if (out_dtype) settings.out = *out_dtype;
  if (fits(x, weight, bias, residual, settings)) {
    return BatchNormActFunction::apply(x, weight, bias, residual, settings);
  }
  at::Tensor y = at::batch_norm(x, orUndefined(weight), orUndefined(bias), settings.running_mean,
                                settings.running_var, settings.step.training, settings.step.factor, eps,
                                at::globalContext().userEnabledCuDNN());
  if (residual) y = y + *residual;
  return activate(y, settings.activation).to(settings.out);
}

}  // namespace

std::optional<ActivationKind> activationNamed(std::string_view name) {
  if (name == "none") return ActivationKind::None;
  if (name == "relu") return ActivationKind::Relu;
  if (name == "clamp") return ActivationKind::Clamp;
  if (name == "leaky_relu") return ActivationKind::LeakyRelu;
  if (name == "silu") return ActivationKind::Silu;
  if (name == "hardswish") return ActivationKind::Hardswish;
  return std::nullopt;
}

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def(
      "batch_norm_act(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_var, Tensor(c!)? num_batches_tracked, int mode, float? momentum, float eps, "
      "Tensor? residual, str activation, float low, float high, ScalarType? out_dtype) -> Tensor",
      batchNormAct);
}

}  // namespace fornax
