// Depthwise convolution in channels-last float32 memory on the CPU, forward and backward
// (depthwise_kernels.h).
#pragma once

namespace fornax {

// Takes the arguments of aten::conv2d and calls that where the kernels do not fit.
inline constexpr const char* kDepthwiseConv = "fornax::depthwise_conv2d";

// Whether there are kernels for this processor that gain.
bool depthwiseConvGains();

}  // namespace fornax
