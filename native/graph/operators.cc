// Operators of our own, registered with the dispatcher like libtorch's: what depends on a mode or draws
// random numbers takes both as arguments, instead of reading them from global state.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include <optional>
#include <vector>

#include "core/error.h"
#include "graph/batch_norm.h"
#include "graph/spec.h"

namespace fornax {

namespace {

Mode toMode(int64_t mode) {
  TORCH_CHECK(mode >= 0 && mode <= 2, "mode must be 0 (eval), 1 (train) or 2 (recompute), got ", mode);
  return static_cast<Mode>(mode);
}

at::Tensor batchNorm(const at::Tensor& x, const std::optional<at::Tensor>& weight,
                     const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& running_mean,
                     const std::optional<at::Tensor>& running_var,
                     const std::optional<at::Tensor>& batches_tracked, int64_t mode,
                     std::optional<double> momentum, double eps) {
  const BatchNormStep step = beginBatchNorm(x, running_mean, batches_tracked, mode, momentum);
  return at::batch_norm(x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor()),
                        running_mean.value_or(at::Tensor()), running_var.value_or(at::Tensor()),
                        step.training, step.factor, eps, at::globalContext().userEnabledCuDNN());
}

void checkProbability(double p) {
  TORCH_CHECK(p >= 0 && p <= 1, "probability must be in [0, 1], got ", p);
}

// Zero with probability p, else 1 / (1 − p); drawn once per element of `shape`.
at::Tensor noise(const at::Tensor& x, at::SymIntArrayRef shape, double p,
                 const std::optional<at::Generator>& generator) {
  at::Tensor mask = at::empty_symint(shape, x.options());
  mask.bernoulli_(1 - p, generator);
  if (p < 1) mask.div_(1 - p);
  return mask;
}

at::Tensor dropout(const at::Tensor& x, double p, int64_t mode, std::optional<at::Generator> generator) {
  checkProbability(p);
  if (toMode(mode) != Mode::Train || p == 0) return x;
  at::Tensor mask = at::empty_like(x, x.options());  // keeps the memory format
  mask.bernoulli_(1 - p, generator);
  if (p < 1) mask.div_(1 - p);
  return x * mask;
}

// Tompson et al. 2015: whole channels.
at::Tensor featureDropout(const at::Tensor& x, double p, int64_t mode,
                          std::optional<at::Generator> generator) {
  checkProbability(p);
  TORCH_CHECK(x.dim() >= 2, "feature_dropout needs [N, C, ...], got ", x.sym_sizes());
  if (toMode(mode) != Mode::Train || p == 0) return x;
  std::vector<c10::SymInt> shape(x.dim(), 1);
  shape[0] = x.sym_size(0);
  shape[1] = x.sym_size(1);
  return x * noise(x, shape, p, generator);
}

// Huang et al. 2016, as torchvision.ops.stochastic_depth: "row" drops samples, "batch" the whole branch.
at::Tensor stochasticDepth(const at::Tensor& x, double p, c10::string_view kind, int64_t mode,
                           std::optional<at::Generator> generator) {
  checkProbability(p);
  TORCH_CHECK(kind == "row" || kind == "batch", "stochastic depth is per 'row' or per 'batch'");
  if (toMode(mode) != Mode::Train || p == 0) return x;
  std::vector<c10::SymInt> shape(x.dim(), 1);
  if (kind == "row") shape[0] = x.sym_size(0);
  return x * noise(x, shape, p, generator);
}

// The plain loop vectorises; one copy per instruction set, chosen when the addon is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#endif
void normalizePixels(const uint8_t* pixels, float* out, int64_t count, const float* scale, const float* shift) {
  // `scale` and `shift` repeat the channels over a multiple of their number, so that one loop serves 1 and 3.
  constexpr int64_t kPeriod = 48;
  int64_t whole = count / kPeriod * kPeriod;
  for (int64_t i = 0; i < whole; i += kPeriod) {
    for (int64_t j = 0; j < kPeriod; ++j)
      out[i + j] = static_cast<float>(pixels[i + j]) * scale[j] + shift[j];
  }
  for (int64_t i = whole; i < count; ++i) {
    out[i] = static_cast<float>(pixels[i]) * scale[i - whole] + shift[i - whole];
  }
}

// A few numbers as a vector on the device, as arguments of kernels: a copy from the host would make it wait,
// and cannot be recorded.
at::Tensor numbersOn(c10::Device device, const std::vector<float>& numbers) {
  if (device.is_cpu()) return at::tensor(numbers);
  const at::Tensor result =
      at::empty({static_cast<int64_t>(numbers.size())}, at::TensorOptions().dtype(at::kFloat).device(device));
  for (size_t i = 0; i < numbers.size(); ++i) result.select(0, static_cast<int64_t>(i)).fill_(numbers[i]);
  return result;
}

// uint8 [N, H, W, C] → float32 [N, C, H, W] in channels-last memory, (x / 255 − mean) / std per channel.
// `reverse` turns the order of the channels around first: mean and std are those of the result.
at::Tensor normalize(const at::Tensor& source_pixels, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                     bool reverse) {
  TORCH_CHECK(source_pixels.dim() == 4 && source_pixels.scalar_type() == at::kByte,
              "normalize takes uint8 [N, H, W, C], got ", source_pixels.scalar_type(), " ",
              source_pixels.sym_sizes());
  const at::Tensor pixels = reverse ? source_pixels.flip({3}) : source_pixels;
  int64_t channels = pixels.size(3);
  TORCH_CHECK(channels > 0, "normalize needs at least one channel");
  TORCH_CHECK(static_cast<int64_t>(mean.size()) == channels && static_cast<int64_t>(std.size()) == channels,
              "normalize needs one mean and one std per channel (", channels, "), got ", mean.size(), " and ",
              std.size());
  if (pixels.is_cpu() && 48 % channels == 0) {
    float scale[48], shift[48];
    for (int64_t i = 0; i < 48; ++i) {
      scale[i] = static_cast<float>(1.0 / (255.0 * std[i % channels]));
      shift[i] = static_cast<float>(-mean[i % channels] / std[i % channels]);
    }
    at::Tensor source = pixels.contiguous();
    at::Tensor out = at::empty(source.sizes(), source.options().dtype(at::kFloat));
    const uint8_t* from = source.const_data_ptr<uint8_t>();
    float* to = out.mutable_data_ptr<float>();
    constexpr int64_t kBlock = 48 * 1024;
    int64_t count = source.numel();
    at::parallel_for(0, (count + kBlock - 1) / kBlock, 1, [&](int64_t begin, int64_t end) {
      int64_t first = begin * kBlock;
      normalizePixels(from + first, to + first, std::min(end * kBlock, count) - first, scale, shift);
    });
    return out.permute({0, 3, 1, 2});
  }
  std::vector<float> scale, shift;
  for (int64_t c = 0; c < channels; ++c) {
    scale.push_back(static_cast<float>(1.0 / (255.0 * std[c])));
    shift.push_back(static_cast<float>(-mean[c] / std[c]));
  }
  return at::addcmul(numbersOn(pixels.device(), shift), pixels.to(at::kFloat),
                     numbersOn(pixels.device(), scale))
      .permute({0, 3, 1, 2});
}

}  // namespace

TORCH_LIBRARY(fornax, library) {
  library.def(
      "batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean, Tensor(b!)? running_var, "
      "Tensor(c!)? num_batches_tracked, int mode, float? momentum=0.1, float eps=1e-05) -> Tensor",
      batchNorm);
  library.def("dropout(Tensor x, float p, int mode, Generator? generator=None) -> Tensor", dropout);
  library.def("feature_dropout(Tensor x, float p, int mode, Generator? generator=None) -> Tensor",
              featureDropout);
  library.def("stochastic_depth(Tensor x, float p, str kind, int mode, Generator? generator=None) -> Tensor",
              stochasticDepth);
  library.def("normalize(Tensor pixels, float[] mean, float[] std, bool reverse=False) -> Tensor", normalize);
}

}  // namespace fornax
