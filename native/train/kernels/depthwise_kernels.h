// Depthwise convolution in channels-last memory: the inner loops, without libtorch. One vector holds the same
// pixel of several channels, so every tap is one multiply-add, and a few neighbouring results share what they
// read. (oneDNN's gradient of the weights takes up to 30 times as long for 5×5 windows.)
//
// Channels come in blocks of a vector's length. The last block ends with the last channel and overlaps the
// one before where they do not divide: then some channels are computed twice, to the same result. Weights are
// packed block by block: [blocks][kernel · kernel][lanes].
#pragma once

#include <cstdint>

namespace fornax {

// Of one image: pixels [height, width, channels] → [out_height, out_width, channels].
struct DepthwiseShape {
  int64_t channels;
  int64_t height, width;
  int64_t out_height, out_width;
  int64_t kernel;   // 3, 5 or 7
  int64_t stride;   // 1 or 2
  int64_t padding;  // < kernel
};

struct DepthwiseKernels {
  // Floats per vector: the smallest number of channels.
  int lanes;

  // Row `row` of the result. `bias` holds `channels` values or is null.
  void (*forward)(const DepthwiseShape& shape, int64_t row, const float* x, const float* weights,
                  const float* bias, float* y);

  // Row `row` of the gradient of x, for stride 2. (For stride 1 it is a forward convolution of dy.)
  void (*inputGradient)(const DepthwiseShape& shape, int64_t row, const float* dy, const float* weights,
                        float* dx);

  // What rows [first, last) of dy contribute to the gradient of the weights is added to `sums` (packed).
  void (*weightGradient)(const DepthwiseShape& shape, int64_t first, int64_t last, const float* x,
                         const float* dy, float* sums);
};

// The fastest that this processor can run.
const DepthwiseKernels& depthwiseKernels();

// Where the binary was compiled for such processors.
const DepthwiseKernels* depthwiseKernelsAvx512();
const DepthwiseKernels* depthwiseKernelsAvx2();

}  // namespace fornax
