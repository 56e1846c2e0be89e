// Linear layers on CPUs for which libtorch has no fast matrix product. libtorch multiplies float32 matrices
// with Intel's MKL, which keeps its AVX-512 kernels to Intel's processors; oneDNN, which libtorch carries for
// convolutions, does not. On an AMD EPYC (Zen 5) its products take half the time, forward and backward.
#pragma once

namespace fornax {

// Takes the arguments of aten::linear; goes through oneDNN where the product is large enough to gain.
inline constexpr const char* kCpuLinear = "fornax::cpu_linear";

// Whether it would be faster than aten::linear on this processor.
bool cpuLinearGains();

}  // namespace fornax
