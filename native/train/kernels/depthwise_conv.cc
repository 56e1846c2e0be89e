#include "train/kernels/depthwise_conv.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "train/kernels/depthwise_kernels.h"

namespace fornax {

namespace {

using OptionalTensor = std::optional<at::Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Multiply-adds that are worth a thread of their own.
constexpr int64_t kSmallestPiece = 128 * 1024;

DepthwiseShape shapeOf(const at::Tensor& x, int64_t kernel, int64_t stride, int64_t padding) {
  const auto size = [&](int64_t length) { return (length + 2 * padding - kernel) / stride + 1; };
  return {x.size(1), x.size(2), x.size(3), size(x.size(2)), size(x.size(3)), kernel, stride, padding};
}

int64_t lanes() {
  return depthwiseKernels().lanes;
}

// Channel `lane` of `block`: the last block ends with the last channel.
int64_t channelOf(int64_t block, int64_t lane, int64_t channels) {
  return std::min(block * lanes(), channels - lanes()) + lane;
}

// [C, 1, k, k] → [blocks][k · k][lanes]. `flipped`: turned by half a turn.
std::vector<float> pack(const at::Tensor& weight, bool flipped) {
  const at::Tensor source = weight.contiguous();
  const float* const from = source.const_data_ptr<float>();
  const int64_t channels = weight.size(0), taps = weight.size(2) * weight.size(3);
  const int64_t blocks = (channels + lanes() - 1) / lanes();
  std::vector<float> packed(blocks * taps * lanes());
  float* to = packed.data();
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t read = flipped ? taps - 1 - tap : tap;
      for (int64_t lane = 0; lane < lanes(); ++lane) {
        *to++ = from[channelOf(block, lane, channels) * taps + read];
      }
    }
  }
  return packed;
}

at::Tensor unpack(const std::vector<float>& packed, const at::Tensor& weight) {
  const at::Tensor result = at::empty(weight.sizes(), weight.options().requires_grad(false));
  float* const to = result.mutable_data_ptr<float>();
  const int64_t channels = weight.size(0), taps = weight.size(2) * weight.size(3);
  const int64_t blocks = (channels + lanes() - 1) / lanes();
  const float* from = packed.data();
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t lane = 0; lane < lanes(); ++lane)
        to[channelOf(block, lane, channels) * taps + tap] = *from++;
    }
  }
  // As the weight lies, so that autograd keeps it without a copy.
  return result.contiguous(weight.suggest_memory_format());
}

// Calls work(image, row) for the rows of all images, on all threads.
template <typename Work>
void forRows(int64_t images, int64_t rows, int64_t work_of_row, const Work& work) {
  const int64_t grain = std::max<int64_t>(kSmallestPiece / std::max<int64_t>(work_of_row, 1), 1);
  at::parallel_for(0, images * rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work(i / rows, i % rows);
  });
}

// y [N, C, out_height, out_width] from x
void convolve(const DepthwiseShape& shape, const at::Tensor& x, const std::vector<float>& weights,
              const float* bias, const at::Tensor& y) {
  const float* const from = x.const_data_ptr<float>();
  float* const to = y.mutable_data_ptr<float>();
  const int64_t width = shape.out_width * shape.channels;
  const int64_t image_size = shape.height * shape.width * shape.channels;
  forRows(x.size(0), shape.out_height, width * shape.kernel * shape.kernel, [&](int64_t image, int64_t row) {
    depthwiseKernels().forward(shape, row, from + image * image_size, weights.data(), bias,
                               to + (image * shape.out_height + row) * width);
  });
}

at::Tensor emptyRows(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::empty(sizes, like.options().requires_grad(false), at::MemoryFormat::ChannelsLast);
}

at::Tensor gradientOfInput(const DepthwiseShape& shape, const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& dy) {
  const at::Tensor dx = emptyRows(x.sizes(), x);
  if (shape.stride == 1) {
    DepthwiseShape back = shape;
    std::swap(back.height, back.out_height);
    std::swap(back.width, back.out_width);
    back.padding = shape.kernel - 1 - shape.padding;
    convolve(back, dy, pack(weight, /*flipped=*/true), nullptr, dx);
    return dx;
  }
  const std::vector<float> weights = pack(weight, /*flipped=*/false);
  const float* const from = dy.const_data_ptr<float>();
  float* const to = dx.mutable_data_ptr<float>();
  const int64_t width = shape.width * shape.channels;
  const int64_t image_size = shape.out_height * shape.out_width * shape.channels;
  forRows(x.size(0), shape.height, width * shape.kernel, [&](int64_t image, int64_t row) {
    depthwiseKernels().inputGradient(shape, row, from + image * image_size, weights.data(),
                                     to + (image * shape.height + row) * width);
  });
  return dx;
}

// Rows of the result whose pixels stay in the second-level cache while all their channels are gone through.
int64_t rowsInCache(const DepthwiseShape& shape) {
  constexpr int64_t kFloats = 32 * 1024;
  const int64_t row = (shape.stride * shape.width + shape.out_width) * shape.channels;
  return std::clamp<int64_t>(kFloats / row, 1, shape.out_height);
}

// Who adds up which rows depends on the number of threads alone, so that the result is always the same.
at::Tensor gradientOfWeight(const DepthwiseShape& shape, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& dy) {
  const int64_t step = rowsInCache(shape);
  const int64_t groups_of_image = (shape.out_height + step - 1) / step;
  const int64_t groups = x.size(0) * groups_of_image;
  const int64_t work = dy.numel() * shape.kernel * shape.kernel;
  const int64_t wanted = std::clamp<int64_t>(work / kSmallestPiece, 1, at::get_num_threads());
  const int64_t length = std::max<int64_t>((groups + wanted - 1) / wanted, 1);
  const int64_t pieces = (groups + length - 1) / length;
  const int64_t size = (shape.channels + lanes() - 1) / lanes() * lanes() * shape.kernel * shape.kernel;
  std::vector<float> sums(size * std::max<int64_t>(pieces, 1), 0.0f);
  const float *const pixels = x.const_data_ptr<float>(), *const gradients = dy.const_data_ptr<float>();
  at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      for (int64_t group = piece * length; group < std::min((piece + 1) * length, groups); ++group) {
        const int64_t image = group / groups_of_image, first = group % groups_of_image * step;
        depthwiseKernels().weightGradient(
            shape, first, std::min(first + step, shape.out_height),
            pixels + image * shape.height * shape.width * shape.channels,
            gradients + image * shape.out_height * shape.out_width * shape.channels,
            sums.data() + piece * size);
      }
    }
  });
  for (int64_t i = size; i < size * pieces; ++i) sums[i % size] += sums[i];
  sums.resize(size);
  return unpack(sums, weight);
}

class DepthwiseConvFunction : public torch::autograd::Function<DepthwiseConvFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, int64_t stride, int64_t padding) {
    const DepthwiseShape shape = shapeOf(x, weight.size(2), stride, padding);
    const at::Tensor y = emptyRows({x.size(0), shape.channels, shape.out_height, shape.out_width}, x);
    convolve(shape, x, pack(weight, false), bias ? bias->const_data_ptr<float>() : nullptr, y);
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const DepthwiseShape shape = shapeOf(x, weight.size(2), context->saved_data["stride"].toInt(),
                                         context->saved_data["padding"].toInt());
    const at::Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor of_x, of_weight, of_bias;
    if (context->needs_input_grad(0)) of_x = gradientOfInput(shape, x, weight, dy);
    if (context->needs_input_grad(1)) of_weight = gradientOfWeight(shape, x, weight, dy);
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) of_bias = dy.sum({0, 2, 3});
    return {of_x, of_weight, of_bias, at::Tensor(), at::Tensor()};
  }
};

bool allAre(at::IntArrayRef values, int64_t value) {
  return std::all_of(values.begin(), values.end(), [value](int64_t other) { return other == value; });
}

bool isFloat(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat;
}

bool fits(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias, at::IntArrayRef stride,
          at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  if (!isFloat(x) || x.dim() != 4 || !x.is_contiguous(at::MemoryFormat::ChannelsLast)) return false;
  if (!isFloat(weight) || weight.dim() != 4 || weight.size(1) != 1 || weight.size(0) != x.size(1))
    return false;
  if (groups != x.size(1) || groups < lanes() || x.numel() == 0) return false;
  if (bias && (!isFloat(*bias) || !bias->is_contiguous() || bias->numel() != groups)) return false;
  const int64_t kernel = weight.size(2);
  if (weight.size(3) != kernel || (kernel != 3 && kernel != 5 && kernel != 7)) return false;
  if (stride.empty() || padding.empty() || !allAre(stride, stride[0]) || !allAre(padding, padding[0]))
    return false;
  if (!allAre(dilation, 1) || (stride[0] != 1 && stride[0] != 2)) return false;
  if (padding[0] < 0 || padding[0] >= kernel) return false;
  return x.size(2) + 2 * padding[0] >= kernel && x.size(3) + 2 * padding[0] >= kernel;
}

at::Tensor depthwiseConv(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias_or_none,
                         at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                         int64_t groups) {
  const OptionalTensor bias = bias_or_none && bias_or_none->defined() ? bias_or_none : std::nullopt;
  if (!fits(x, weight, bias, stride, padding, dilation, groups)) {
    return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
  }
  return DepthwiseConvFunction::apply(x, weight, bias, stride[0], padding[0]);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def(
      "depthwise_conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, int[2] padding=0, "
      "int[2] dilation=1, int groups=1) -> Tensor",
      depthwiseConv);
}

bool depthwiseConvGains() {
  return lanes() >= 8;
}

}  // namespace fornax
