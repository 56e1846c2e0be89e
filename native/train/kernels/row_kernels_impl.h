// The loops of row_kernels.h, written once with the compiler's vector types: see vector.h.
#include "train/kernels/row_kernels.h"
#include "train/kernels/vector.h"

namespace fornax::FORNAX_VECTOR_NAMESPACE {

namespace {

constexpr int64_t kTile = 4;     // rows in one go
constexpr int64_t kBlock = 256;  // rows summed in single precision before they are added in double

// ---- activations

// value(p): the activation. gradient(dy, p): dy times its derivative at p; gradientAt(dy, y): at the p that
// became y. Comparisons are such that what is not a number stays so, and equal libtorch's at the corners.
struct None {
  static constexpr bool kFromResult = true;
  VECTOR_INLINE static Vec value(Vec p, Vec, Vec) { return p; }
  VECTOR_INLINE static Vec gradient(Vec dy, Vec, Vec, Vec) { return dy; }
  VECTOR_INLINE static Vec gradientAt(Vec dy, Vec, Vec, Vec) { return dy; }
};

struct Relu {
  static constexpr bool kFromResult = true;
  VECTOR_INLINE static Vec value(Vec p, Vec, Vec) { return p < 0.0f ? Vec{} : p; }
  VECTOR_INLINE static Vec gradient(Vec dy, Vec p, Vec, Vec) { return p <= 0.0f ? Vec{} : dy; }
  VECTOR_INLINE static Vec gradientAt(Vec dy, Vec y, Vec, Vec) { return y <= 0.0f ? Vec{} : dy; }
};

struct Clamp {
  static constexpr bool kFromResult = true;
  VECTOR_INLINE static Vec value(Vec p, Vec low, Vec high) {
    p = p < low ? low : p;
    return p > high ? high : p;
  }
  VECTOR_INLINE static Vec gradient(Vec dy, Vec p, Vec low, Vec high) {
    dy = p <= low ? Vec{} : dy;
    return p >= high ? Vec{} : dy;
  }
  VECTOR_INLINE static Vec gradientAt(Vec dy, Vec y, Vec low, Vec high) { return gradient(dy, y, low, high); }
};

struct LeakyRelu {
  static constexpr bool kFromResult = true;
  VECTOR_INLINE static Vec value(Vec p, Vec slope, Vec) { return p > 0.0f ? p : p * slope; }
  VECTOR_INLINE static Vec gradient(Vec dy, Vec p, Vec slope, Vec) { return p > 0.0f ? dy : dy * slope; }
  // The slope is positive, so y has the sign of p.
  VECTOR_INLINE static Vec gradientAt(Vec dy, Vec y, Vec slope, Vec) { return gradient(dy, y, slope, Vec{}); }
};

struct Silu {
  static constexpr bool kFromResult = false;
  VECTOR_INLINE static Vec value(Vec p, Vec, Vec) { return p * sigmoid(p); }
  VECTOR_INLINE static Vec gradient(Vec dy, Vec p, Vec, Vec) {
    const Vec s = sigmoid(p);
    return dy * s * (1.0f + p * (1.0f - s));
  }
};

struct Hardswish {
  static constexpr bool kFromResult = false;
  VECTOR_INLINE static Vec value(Vec p, Vec, Vec) {
    Vec gate = p + 3.0f;
    gate = gate < 0.0f ? Vec{} : gate;
    gate = gate > 6.0f ? splat(6.0f) : gate;
    return p * gate * (1.0f / 6.0f);
  }
  VECTOR_INLINE static Vec gradient(Vec dy, Vec p, Vec, Vec) {
    const Vec inside = dy * (p * (1.0f / 3.0f) + 0.5f);
    const Vec result = p <= -3.0f ? Vec{} : inside;
    return p < 3.0f ? result : (p == p ? dy : p);
  }
};

// ---- the loops; each `step` handles one vector of kRows rows, `width` apart

template <typename In>
struct Moments {
  const In* x;
  const float* center;
  float* sums;
  int64_t width;

  template <int64_t kRows, bool kWhole>
  VECTOR_INLINE void step(int64_t row, int64_t i, int64_t count) const {
    const In* from = x + row * width + i;
    // Past the end the deviation is 0.
    const Vec middle = get<kWhole>(center + i, count);
    Vec sum{}, square{};
    for (int64_t k = 0; k < kRows; ++k) {
      const Vec deviation = get<kWhole>(from + k * width, count) - middle;
      sum += deviation;
      square += deviation * deviation;
    }
    store(sums + i, load(sums + i) + sum);
    store(sums + width + i, load(sums + width + i) + square);
  }
};

template <typename In, typename Out, typename Act, bool kResidual>
struct Apply {
  const In* x;
  const Out* residual;
  Out* y;
  NormConstants constants;
  float low, high;
  int64_t width;

  template <int64_t kRows, bool kWhole>
  VECTOR_INLINE void step(int64_t row, int64_t i, int64_t count) const {
    const int64_t at = row * width + i;
    const Vec scale = load(constants.scale + i), shift = load(constants.shift + i);
    for (int64_t k = 0; k < kRows; ++k) {
      Vec p = get<kWhole>(x + at + k * width, count) * scale + shift;
      if constexpr (kResidual) p += get<kWhole>(residual + at + k * width, count);
      put<kWhole>(y + at + k * width, Act::value(p, splat(low), splat(high)), count);
    }
  }
};

template <typename In, typename Out, typename Act, bool kFromY, bool kWrites>
struct GradientSums {
  const In* x;
  const Out *dy, *y;
  Out* g;
  NormConstants constants;
  const float* mean;
  float* sums;
  float low, high;
  int64_t width;

  template <int64_t kRows, bool kWhole>
  VECTOR_INLINE void step(int64_t row, int64_t i, int64_t count) const {
    const int64_t at = row * width + i;
    const Vec middle = load(mean + i);
    const Vec scale = load(constants.scale + i), shift = load(constants.shift + i);
    Vec sum{}, product{};
    for (int64_t k = 0; k < kRows; ++k) {
      const int64_t place = at + k * width;
      const Vec value = get<kWhole>(x + place, count);
      // Past the end dy, and so g, is 0.
      Vec gradient = get<kWhole>(dy + place, count);
      if constexpr (kFromY) {
        gradient = Act::gradientAt(gradient, get<kWhole>(y + place, count), splat(low), splat(high));
      } else {
        gradient = Act::gradient(gradient, value * scale + shift, splat(low), splat(high));
      }
      if constexpr (kWrites) put<kWhole>(g + place, gradient, count);
      sum += gradient;
      product += gradient * (value - middle);
    }
    store(sums + i, load(sums + i) + sum);
    store(sums + width + i, load(sums + width + i) + product);
  }
};

template <typename In, typename Out, typename Act>
struct GradientInput {
  const In* x;
  const Out* dy;
  In* dx;
  NormConstants constants;
  const float *of_gradient, *of_x, *of_one;
  float low, high;
  int64_t width;

  template <int64_t kRows, bool kWhole>
  VECTOR_INLINE void step(int64_t row, int64_t i, int64_t count) const {
    const int64_t at = row * width + i;
    const Vec scale = load(constants.scale + i), shift = load(constants.shift + i);
    const Vec a = load(of_gradient + i), b = load(of_x + i), c = load(of_one + i);
    for (int64_t k = 0; k < kRows; ++k) {
      const int64_t place = at + k * width;
      const Vec value = get<kWhole>(x + place, count);
      const Vec g =
          Act::gradient(get<kWhole>(dy + place, count), value * scale + shift, splat(low), splat(high));
      put<kWhole>(dx + place, a * g + (b * value + c), count);
    }
  }
};

// Rows [first, last), all of them whole.
template <typename Loop>
VECTOR_INLINE void overRows(const Loop& loop, int64_t first, int64_t last, int64_t width) {
  int64_t row = first;
  for (; row + kTile <= last; row += kTile) {
    for (int64_t i = 0; i < width; i += kLanes) loop.template step<kTile, true>(row, i, kLanes);
  }
  for (; row < last; ++row) {
    for (int64_t i = 0; i < width; i += kLanes) loop.template step<1, true>(row, i, kLanes);
  }
}

// `count` values at the beginning of a row.
template <typename Loop>
VECTOR_INLINE void overPart(const Loop& loop, int64_t row, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) loop.template step<1, true>(row, i, kLanes);
  if (i < count) loop.template step<1, false>(row, i, count - i);
}

template <typename Loop>
VECTOR_INLINE void overAll(const Loop& loop, const Rows& rows) {
  const int64_t whole = rows.count / rows.width;
  overRows(loop, 0, whole, rows.width);
  overPart(loop, whole, rows.count - whole * rows.width);
}

// As overAll; the loop adds to `scratch`, which is moved into `sums` before it loses precision.
template <typename Loop>
VECTOR_INLINE void summedOverAll(const Loop& loop, const Rows& rows, float* scratch, double* sums) {
  const int64_t whole = rows.count / rows.width;
  for (int64_t i = 0; i < 2 * rows.width; ++i) scratch[i] = 0;
  for (int64_t first = 0; first <= whole; first += kBlock) {
    const int64_t last = first + kBlock < whole ? first + kBlock : whole;
    overRows(loop, first, last, rows.width);
    if (last == whole) overPart(loop, whole, rows.count - whole * rows.width);
    for (int64_t i = 0; i < 2 * rows.width; ++i) {
      sums[i] += scratch[i];
      scratch[i] = 0;
    }
    if (last == whole) break;
  }
}

// ---- from types and activations at run time to those of a loop

template <typename In>
FORNAX_VECTOR_TARGET void momentsOf(const Rows& rows, const void* x, const float* center, double* sums,
                                    float* scratch) {
  const Moments<In> loop{static_cast<const In*>(x), center, scratch, rows.width};
  summedOverAll(loop, rows, scratch, sums);
}

void moments(const Rows& rows, Element type, const void* x, const float* center, double* sums,
             float* scratch) {
  (type == Element::Float32 ? momentsOf<float> : momentsOf<BFloat>)(rows, x, center, sums, scratch);
}

struct ApplyCall {
  const Rows& rows;
  const Activation& activation;
  const void *x, *residual;
  NormConstants constants;
  void* y;

  template <typename In, typename Out, typename Act>
  FORNAX_VECTOR_TARGET void run() const {
    const auto* from = static_cast<const In*>(x);
    const auto* other = static_cast<const Out*>(residual);
    auto* to = static_cast<Out*>(y);
    if (other != nullptr) {
      overAll(
          Apply<In, Out, Act, true>{from, other, to, constants, activation.low, activation.high, rows.width},
          rows);
    } else {
      overAll(Apply<In, Out, Act, false>{from, nullptr, to, constants, activation.low, activation.high,
                                         rows.width},
              rows);
    }
  }
};

struct GradientSumsCall {
  const Rows& rows;
  const Activation& activation;
  const void *x, *dy, *y;
  NormConstants constants;
  const float* mean;
  void* g;
  double* sums;
  float* scratch;

  template <typename In, typename Out, typename Act, bool kFromY, bool kWrites>
  VECTOR_INLINE void runFrom() const {
    const GradientSums<In, Out, Act, kFromY, kWrites> loop{static_cast<const In*>(x),
                                                           static_cast<const Out*>(dy),
                                                           static_cast<const Out*>(y),
                                                           static_cast<Out*>(g),
                                                           constants,
                                                           mean,
                                                           scratch,
                                                           activation.low,
                                                           activation.high,
                                                           rows.width};
    summedOverAll(loop, rows, scratch, sums);
  }

  template <typename In, typename Out, typename Act>
  FORNAX_VECTOR_TARGET void run() const {
    if constexpr (Act::kFromResult) {
      if (y != nullptr) return runFrom<In, Out, Act, true, true>();
    } else {
      if (g != nullptr) return runFrom<In, Out, Act, false, true>();
    }
    runFrom<In, Out, Act, false, false>();
  }
};

struct GradientInputCall {
  const Rows& rows;
  const Activation& activation;
  const void *x, *dy;
  NormConstants constants;
  const float *of_gradient, *of_x, *of_one;
  void* dx;

  template <typename In, typename Out, typename Act>
  FORNAX_VECTOR_TARGET void run() const {
    overAll(GradientInput<In, Out, Act>{static_cast<const In*>(x), static_cast<const Out*>(dy),
                                        static_cast<In*>(dx), constants, of_gradient, of_x, of_one,
                                        activation.low, activation.high, rows.width},
            rows);
  }
};

template <typename In, typename Out, typename Call>
void withActivation(const Call& call) {
  switch (call.activation.kind) {
    case ActivationKind::None:
      return call.template run<In, Out, None>();
    case ActivationKind::Relu:
      return call.template run<In, Out, Relu>();
    case ActivationKind::Clamp:
      return call.template run<In, Out, Clamp>();
    case ActivationKind::LeakyRelu:
      return call.template run<In, Out, LeakyRelu>();
    case ActivationKind::Silu:
      return call.template run<In, Out, Silu>();
    case ActivationKind::Hardswish:
      return call.template run<In, Out, Hardswish>();
  }
}

template <typename Call>
void withTypes(Element in, Element out, const Call& call) {
  if (in == Element::Float32) {
    out == Element::Float32 ? withActivation<float, float>(call) : withActivation<float, BFloat>(call);
  } else {
    out == Element::Float32 ? withActivation<BFloat, float>(call) : withActivation<BFloat, BFloat>(call);
  }
}

void apply(const Rows& rows, const Activation& activation, Element in, Element out, const void* x,
           const void* residual, const NormConstants& constants, void* y) {
  withTypes(in, out, ApplyCall{rows, activation, x, residual, constants, y});
}

void gradientSums(const Rows& rows, const Activation& activation, Element in, Element out, const void* x,
                  const void* dy, const void* y, const NormConstants& constants, const float* mean, void* g,
                  double* sums, float* scratch) {
  withTypes(in, out, GradientSumsCall{rows, activation, x, dy, y, constants, mean, g, sums, scratch});
}

void gradientInput(const Rows& rows, const Activation& activation, Element in, Element out, const void* x,
                   const void* dy, const NormConstants& constants, const float* of_gradient,
                   const float* of_x, const float* of_one, void* dx) {
  withTypes(in, out, GradientInputCall{rows, activation, x, dy, constants, of_gradient, of_x, of_one, dx});
}

constexpr RowKernels kRowKernels{FORNAX_VECTOR_LANES, moments, apply, gradientSums, gradientInput};

}  // namespace

}  // namespace fornax::FORNAX_VECTOR_NAMESPACE
