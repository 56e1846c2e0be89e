// Rows (row_kernels.h) of one sample times a factor per channel: the inner loops of squeeze-and-excitation,
// without libtorch. One variant per instruction set (gate_kernels_impl.h).
#pragma once

#include <cstdint>

#include "train/kernels/row_kernels.h"

namespace fornax {

// The pixels of one sample; the values of all channels of a pixel lie side by side.
struct GateShape {
  int64_t pixels, channels;
};

struct GateKernels {
  // y = x · gate
  void (*multiply)(const GateShape& shape, Element type, const void* x, const void* gate, void* y);

  // dx = dy · gate and sums[c] = Σ dy · x over the pixels. dx may be dy's memory; `block` holds one float per
  // channel.
  void (*gradients)(const GateShape& shape, Element type, const void* x, const void* gate, const void* dy,
                    void* dx, float* sums, float* block);

  // x += added, of which there is one value per channel
  void (*add)(const GateShape& shape, Element type, const void* added, void* x);
};

// The fastest that this processor can run.
const GateKernels& gateKernels();

// Where the binary was compiled for such processors.
const GateKernels* gateKernelsAvx512();
const GateKernels* gateKernelsAvx2();

}  // namespace fornax
