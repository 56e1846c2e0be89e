// Kernels for the meta device, on which shapes are inferred. libtorch's C++ libraries lack many of them:
// PyTorch registers those from Python.
#pragma once

namespace fornax {

// Registers what is missing, once per process. Convolution, batch norm and the common activations compute
// shapes alone; every other operator that has a CPU kernel runs on the CPU with zeros of the given shapes.
void registerMetaKernels();

}  // namespace fornax
