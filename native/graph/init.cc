#include "graph/init.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "core/error.h"

namespace fornax {

namespace {

struct Fans {
  double in, out;
};

// [out, in / groups, *kernel]: fan_in = in / groups · kernel, fan_out = out · kernel, as in torch.nn.init.
Fans fansOf(const at::Tensor& tensor) {
  if (tensor.dim() < 2) {
    throw Error(ErrorKind::Graph, "an initialiser by fan needs at least two dimensions");
  }
  double kernel = 1;
  for (int64_t d = 2; d < tensor.dim(); ++d) kernel *= static_cast<double>(tensor.size(d));
  return {static_cast<double>(tensor.size(1)) * kernel, static_cast<double>(tensor.size(0)) * kernel};
}

double normalCdf(double x) {
  return (1 + std::erf(x / std::sqrt(2.0))) / 2;
}

// Inverse transform, as in torch.nn.init.trunc_normal_.
void truncNormal(at::Tensor& tensor, const InitSpec& init, const at::Generator& generator) {
  double low = normalCdf((init.a - init.mean) / init.std);
  double high = normalCdf((init.b - init.mean) / init.std);
  tensor.uniform_(2 * low - 1, 2 * high - 1, generator);
  tensor.erfinv_().mul_(init.std * std::sqrt(2.0)).add_(init.mean).clamp_(init.a, init.b);
}

}  // namespace

void drawInit(at::Tensor& tensor, const InitSpec& init, const at::Generator& generator) {
  c10::NoGradGuard no_grad;
  if (tensor.numel() == 0) return;
  switch (init.kind) {
    case InitSpec::Kind::Constant:
      tensor.fill_(init.value);
      return;
    case InitSpec::Kind::Values:
      if (tensor.numel() != static_cast<int64_t>(init.values.size())) {
        throw Error(ErrorKind::Graph, std::to_string(init.values.size()) + " initial values do not fill " +
                                          std::to_string(tensor.numel()) + " elements");
      }
      tensor.copy_(at::tensor(init.values, at::kDouble).view(tensor.sizes()));
      return;
    case InitSpec::Kind::Uniform:
      tensor.uniform_(init.low, init.high, generator);
      return;
    case InitSpec::Kind::Normal:
      tensor.normal_(init.mean, init.std, generator);
      return;
    case InitSpec::Kind::TruncNormal:
      truncNormal(tensor, init, generator);
      return;
    default:
      break;
  }
  Fans fans = fansOf(tensor);
  double fan = init.fan_out ? fans.out : fans.in;
  bool xavier = init.kind == InitSpec::Kind::XavierUniform || init.kind == InitSpec::Kind::XavierNormal;
  double std = xavier ? init.gain * std::sqrt(2.0 / (fans.in + fans.out)) : init.gain / std::sqrt(fan);
  if (init.kind == InitSpec::Kind::KaimingNormal || init.kind == InitSpec::Kind::XavierNormal) {
    tensor.normal_(0, std, generator);
  } else {
    double bound = std::sqrt(3.0) * std;
    tensor.uniform_(-bound, bound, generator);
  }
}

}  // namespace fornax
