// Batch norm and activation over rows: the inner loops, without libtorch. A row holds the values of all
// channels of one pixel (channels-last memory), and channels rarely fill whole vectors. So rows are taken
// `period` at a time, such that they do: constants per channel are repeated to that length (`width`), sums
// are folded afterwards. Each loop reads several rows per constant and adds them up in registers before it
// touches the sums, which stay in the first-level cache: memory bandwidth is what bounds it.
//
// One variant per instruction set (row_kernels_impl.h), chosen once at run time.
#pragma once

#include <cstdint>

namespace fornax {

enum class Element : uint8_t { Float32, BFloat16 };

enum class ActivationKind : uint8_t { None, Relu, Clamp, LeakyRelu, Silu, Hardswish };

// `low` and `high` of Clamp; `low` is the slope of LeakyRelu.
struct Activation {
  ActivationKind kind = ActivationKind::None;
  float low = 0, high = 0;
};

// `count` values in memory, the first of which belongs to channel 0: all rows of one piece of work. Arrays of
// constants hold `width` values, a multiple of the vector length and of the channels.
struct Rows {
  int64_t count;
  int64_t width;
};

// Constants of batch norm; `width` floats each. The value before the activation is x · scale + shift.
struct NormConstants {
  const float* scale;
  const float* shift;
};

struct RowKernels {
  // Vector length in floats.
  int lanes;

  // sums[i] += Σ (x − center), sums[width + i] += Σ (x − center)²; `scratch` holds 2 · width floats.
  void (*moments)(const Rows& rows, Element type, const void* x, const float* center, double* sums,
                  float* scratch);

  // y = activation(x · scale + shift + residual). `residual` has the type of y and may be null.
  void (*apply)(const Rows& rows, const Activation& activation, Element in, Element out, const void* x,
                const void* residual, const NormConstants& constants, void* y);

  // With g = dy · activation′: sums[i] += Σ g, sums[width + i] += Σ g · (x − mean). The derivative is taken
  // at x · scale + shift, or, if `y` is given, at what the activation made of it (not Silu, not Hardswish);
  // then g is written, too. Silu and Hardswish, which cost more than memory, write it where `g` is not null;
  // it may be dy's memory. dy, y and g have the type `out`.
  void (*gradientSums)(const Rows& rows, const Activation& activation, Element in, Element out, const void* x,
                       const void* dy, const void* y, const NormConstants& constants, const float* mean,
                       void* g, double* sums, float* scratch);

  // dx = of_gradient · g + of_x · x + of_one, g as above (without y). dx has the type `in`; it may be dy's
  // memory if the types are the same.
  void (*gradientInput)(const Rows& rows, const Activation& activation, Element in, Element out,
                        const void* x, const void* dy, const NormConstants& constants,
                        const float* of_gradient, const float* of_x, const float* of_one, void* dx);
};

// The fastest that this processor can run.
const RowKernels& rowKernels();

// Where the binary was compiled for such processors.
const RowKernels* rowKernelsAvx512();
const RowKernels* rowKernelsAvx2();

}  // namespace fornax
