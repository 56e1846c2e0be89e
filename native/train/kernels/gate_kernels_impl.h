// The loops of gate_kernels.h, written once with the compiler's vector types: see vector.h.
#include "train/kernels/gate_kernels.h"
#include "train/kernels/vector.h"

namespace fornax::FORNAX_VECTOR_NAMESPACE {

namespace {

constexpr int64_t kGatePixels = 4;   // in one go: each factor and each sum is then read once for all of them
constexpr int64_t kGateBlock = 256;  // pixels added up before they are added to the sum, against rounding

// y = x · gate, for kPixels pixels of one vector of channels
template <typename T>
struct Multiply {
  const T *x, *gate;
  T* y;
  int64_t channels;

  template <bool kWhole, int64_t kPixels>
  VECTOR_INLINE void step(int64_t pixel, int64_t channel, int64_t count) const {
    const Vec factor = get<kWhole>(gate + channel, count);
    for (int64_t p = 0; p < kPixels; ++p) {
      const int64_t at = (pixel + p) * channels + channel;
      put<kWhole>(y + at, get<kWhole>(x + at, count) * factor, count);
    }
  }
};

template <typename T>
struct Gradients {
  const T *x, *gate, *dy;
  T* dx;
  float* block;
  int64_t channels;

  template <bool kWhole, int64_t kPixels>
  VECTOR_INLINE void step(int64_t pixel, int64_t channel, int64_t count) const {
    const Vec factor = get<kWhole>(gate + channel, count);
    Vec sum = get<kWhole>(block + channel, count);
    for (int64_t p = 0; p < kPixels; ++p) {
      const int64_t at = (pixel + p) * channels + channel;
      const Vec gradient = get<kWhole>(dy + at, count);
      sum += gradient * get<kWhole>(x + at, count);
      put<kWhole>(dx + at, gradient * factor, count);
    }
    put<kWhole>(block + channel, sum, count);
  }
};

template <typename T>
struct AddToPixels {
  const T* added;
  T* x;
  int64_t channels;

  template <bool kWhole, int64_t kPixels>
  VECTOR_INLINE void step(int64_t pixel, int64_t channel, int64_t count) const {
    const Vec share = get<kWhole>(added + channel, count);
    for (int64_t p = 0; p < kPixels; ++p) {
      const int64_t at = (pixel + p) * channels + channel;
      put<kWhole>(x + at, get<kWhole>(x + at, count) + share, count);
    }
  }
};

template <int64_t kPixels, typename Step>
FORNAX_VECTOR_TARGET void overChannels(const Step& step, int64_t pixel, int64_t channels) {
  int64_t channel = 0;
  for (; channel + kLanes <= channels; channel += kLanes) {
    step.template step<true, kPixels>(pixel, channel, kLanes);
  }
  if (channel < channels) step.template step<false, kPixels>(pixel, channel, channels - channel);
}

template <typename Step>
FORNAX_VECTOR_TARGET void overPixels(const Step& step, int64_t first, int64_t last, int64_t channels) {
  int64_t pixel = first;
  for (; pixel + kGatePixels <= last; pixel += kGatePixels) overChannels<kGatePixels>(step, pixel, channels);
  for (; pixel < last; ++pixel) overChannels<1>(step, pixel, channels);
}

template <typename T>
FORNAX_VECTOR_TARGET void multiplyAs(const GateShape& shape, const void* x, const void* gate, void* y) {
  const Multiply<T> step{static_cast<const T*>(x), static_cast<const T*>(gate), static_cast<T*>(y),
                         shape.channels};
  overPixels(step, 0, shape.pixels, shape.channels);
}

template <typename T>
FORNAX_VECTOR_TARGET void gradientsAs(const GateShape& shape, const void* x, const void* gate, const void* dy,
                                      void* dx, float* sums, float* block) {
  const Gradients<T> step{static_cast<const T*>(x),
                          static_cast<const T*>(gate),
                          static_cast<const T*>(dy),
                          static_cast<T*>(dx),
                          block,
                          shape.channels};
  for (int64_t c = 0; c < shape.channels; ++c) sums[c] = 0;
  for (int64_t first = 0; first < shape.pixels; first += kGateBlock) {
    const int64_t end = first + kGateBlock;
    for (int64_t c = 0; c < shape.channels; ++c) block[c] = 0;
    overPixels(step, first, end < shape.pixels ? end : shape.pixels, shape.channels);
    for (int64_t c = 0; c < shape.channels; ++c) sums[c] += block[c];
  }
}

template <typename T>
FORNAX_VECTOR_TARGET void addAs(const GateShape& shape, const void* added, void* x) {
  const AddToPixels<T> step{static_cast<const T*>(added), static_cast<T*>(x), shape.channels};
  overPixels(step, 0, shape.pixels, shape.channels);
}

void multiply(const GateShape& shape, Element type, const void* x, const void* gate, void* y) {
  (type == Element::Float32 ? multiplyAs<float> : multiplyAs<BFloat>)(shape, x, gate, y);
}

void gradients(const GateShape& shape, Element type, const void* x, const void* gate, const void* dy,
               void* dx, float* sums, float* block) {
  (type == Element::Float32 ? gradientsAs<float> : gradientsAs<BFloat>)(shape, x, gate, dy, dx, sums, block);
}

void add(const GateShape& shape, Element type, const void* added, void* x) {
  (type == Element::Float32 ? addAs<float> : addAs<BFloat>)(shape, added, x);
}

constexpr GateKernels kGateKernels{multiply, gradients, add};

}  // namespace

}  // namespace fornax::FORNAX_VECTOR_NAMESPACE
