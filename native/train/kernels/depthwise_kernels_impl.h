// The loops of depthwise_kernels.h, written once with the compiler's vector types: see vector.h.
#include "train/kernels/depthwise_kernels.h"
#include "train/kernels/vector.h"

namespace fornax::FORNAX_VECTOR_NAMESPACE {

namespace {

// Results in one go: they share the weights and most of the pixels.
constexpr int kResults = 4;
constexpr int kLargestKernel = 7;
constexpr int64_t kCacheLine = 16;  // floats

VECTOR_INLINE int64_t blocksOf(int64_t channels) {
  return (channels + kLanes - 1) / kLanes;
}

// First channel of a block.
VECTOR_INLINE int64_t startOf(int64_t block, int64_t channels) {
  const int64_t start = block * kLanes;
  return start + kLanes <= channels ? start : channels - kLanes;
}

VECTOR_INLINE int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

VECTOR_INLINE int64_t most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// [first, last): the part of a window at `start` that lies within `length` pixels.
struct Span {
  int64_t first, last;
  VECTOR_INLINE Span(int64_t start, int64_t kernel, int64_t length)
      : first(most(0, -start)), last(least(kernel, length - start)) {}
};

// Results whose windows lie within the row.
template <int kKernel, int kStride>
VECTOR_INLINE void interiorOf(const DepthwiseShape& shape, int64_t& first, int64_t& last) {
  first = least((shape.padding + kStride - 1) / kStride, shape.out_width);
  const int64_t room = shape.width - kKernel + shape.padding;
  last = room < 0 ? first : most(first, least(room / kStride + 1, shape.out_width));
}

template <int kKernel, int kStride, int kCount>
VECTOR_INLINE void forwardInside(const DepthwiseShape& shape, const Span& rows, const float* window,
                                 const float* weights, const float* bias, float* y) {
  constexpr int64_t kShare = kCount * kStride * kLanes;  // of a block in the pixels that are new to a row
  const int64_t channels = shape.channels;
  for (int64_t block = 0; block < blocksOf(channels); ++block) {
    const int64_t start = startOf(block, channels);
    // What the next row of results reads first of all. Pixels lie further apart than the processor's own
    // prefetching follows: this gains up to a third where the image comes from main memory.
#pragma GCC unroll 8
    for (int i = 0; i < kStride; ++i) {
      const float* const next = window + (kKernel + i) * shape.width * channels + block * kShare;
#pragma GCC unroll 8
      for (int64_t k = 0; k < kShare; k += kCacheLine) __builtin_prefetch(next + k, 0, 2);
    }
    Vec sums[kCount];
    for (int t = 0; t < kCount; ++t) sums[t] = bias != nullptr ? load(bias + start) : Vec{};
    for (int64_t i = rows.first; i < rows.last; ++i) {
      const float* const tap = weights + (block * kKernel + i) * kKernel * kLanes;
      const float* const row = window + i * shape.width * channels + start;
      Vec taps[kKernel];
#pragma GCC unroll 8
      for (int j = 0; j < kKernel; ++j) taps[j] = load(tap + j * kLanes);
#pragma GCC unroll 16
      for (int column = 0; column < (kCount - 1) * kStride + kKernel; ++column) {
        const Vec pixel = load(row + column * channels);
#pragma GCC unroll 8
        for (int t = 0; t < kCount; ++t) {
          const int j = column - t * kStride;
          if (j >= 0 && j < kKernel) sums[t] += pixel * taps[j];
        }
      }
    }
    for (int t = 0; t < kCount; ++t) store(y + t * channels + start, sums[t]);
  }
}

// One result whose window reaches over the edge.
VECTOR_INLINE void forwardEdge(const DepthwiseShape& shape, const Span& rows, const Span& columns,
                               const float* window, const float* weights, const float* bias, float* y) {
  const int64_t channels = shape.channels, kernel = shape.kernel;
  for (int64_t block = 0; block < blocksOf(channels); ++block) {
    const int64_t start = startOf(block, channels);
    Vec sum = bias != nullptr ? load(bias + start) : Vec{};
    for (int64_t i = rows.first; i < rows.last; ++i) {
      const float* const taps = weights + (block * kernel + i) * kernel * kLanes;
      const float* const row = window + i * shape.width * channels + start;
      for (int64_t j = columns.first; j < columns.last; ++j) {
        sum += load(row + j * channels) * load(taps + j * kLanes);
      }
    }
    store(y + start, sum);
  }
}

template <int kKernel, int kStride>
FORNAX_VECTOR_TARGET void forwardRow(const DepthwiseShape& shape, int64_t row, const float* x,
                                     const float* weights, const float* bias, float* y) {
  const int64_t channels = shape.channels;
  const int64_t top = row * kStride - shape.padding;
  const Span rows(top, kKernel, shape.height);
  const float* const origin = x + (top * shape.width - shape.padding) * channels;
  int64_t first, last;
  interiorOf<kKernel, kStride>(shape, first, last);
  const auto windowAt = [=](int64_t column) { return origin + column * kStride * channels; };
  int64_t column = 0;
  for (; column < shape.out_width; ++column) {
    if (column == first) {
      for (; column + kResults <= last; column += kResults) {
        forwardInside<kKernel, kStride, kResults>(shape, rows, windowAt(column), weights, bias,
                                                  y + column * channels);
      }
      for (; column + 2 <= last; column += 2) {
        forwardInside<kKernel, kStride, 2>(shape, rows, windowAt(column), weights, bias,
                                           y + column * channels);
      }
      if (column >= shape.out_width) break;
    }
    const Span columns(column * kStride - shape.padding, kKernel, shape.width);
    forwardEdge(shape, rows, columns, windowAt(column), weights, bias, y + column * channels);
  }
}

// Stride 2: a pixel has a part in every second result of a row and of a column.
FORNAX_VECTOR_TARGET void inputGradient(const DepthwiseShape& shape, int64_t row, const float* dy,
                                        const float* weights, float* dx) {
  const int64_t channels = shape.channels, kernel = shape.kernel;
  constexpr int kMost = (kLargestKernel + 1) / 2;
  for (int64_t column = 0; column < shape.width; ++column) {
    int64_t from[kMost * kMost], with[kMost * kMost];
    int count = 0;
    for (int64_t i = (row + shape.padding) % 2; i < kernel; i += 2) {
      const int64_t y = (row + shape.padding - i) / 2;
      if (row + shape.padding < i || y >= shape.out_height) continue;
      for (int64_t j = (column + shape.padding) % 2; j < kernel; j += 2) {
        const int64_t x = (column + shape.padding - j) / 2;
        if (column + shape.padding < j || x >= shape.out_width) continue;
        from[count] = (y * shape.out_width + x) * channels;
        with[count++] = (i * kernel + j) * kLanes;
      }
    }
    for (int64_t block = 0; block < blocksOf(channels); ++block) {
      const int64_t start = startOf(block, channels);
      const float* const taps = weights + block * kernel * kernel * kLanes;
      Vec sum{};
      for (int t = 0; t < count; ++t) sum += load(dy + from[t] + start) * load(taps + with[t]);
      store(dx + column * channels + start, sum);
    }
  }
}

// Row i of the window: what results [0, out_width) of `dy` contribute, two at a time inside.
template <int kKernel, int kStride>
VECTOR_INLINE void weightRow(const DepthwiseShape& shape, int64_t first, int64_t last, const float* row,
                             const float* dy, Vec (&sums)[2][kKernel]) {
  const int64_t channels = shape.channels;
  const auto edge = [&](int64_t column) __attribute__((always_inline)) FORNAX_VECTOR_TARGET {
    const Vec gradient = load(dy + column * channels);
    const int64_t left = column * kStride - shape.padding;
#pragma GCC unroll 8
    for (int j = 0; j < kKernel; ++j) {
      if (left + j >= 0 && left + j < shape.width) sums[0][j] += gradient * load(row + (left + j) * channels);
    }
  };
  for (int64_t column = 0; column < first; ++column) edge(column);
  int64_t column = first;
  for (; column + 2 <= last; column += 2) {
    const Vec one = load(dy + column * channels), other = load(dy + (column + 1) * channels);
    const float* const window = row + (column * kStride - shape.padding) * channels;
#pragma GCC unroll 8
    for (int j = 0; j < kKernel; ++j) {
      sums[0][j] += one * load(window + j * channels);
      sums[1][j] += other * load(window + (j + kStride) * channels);
    }
  }
  for (; column < shape.out_width; ++column) edge(column);
}

// One row of dy and the window of 3 × 3 whose corner is at `x` for result 0: all nine sums in registers.
// Those rows of the window that lie outside (`kWhole`: none does) contribute nothing.
template <int kStride, bool kWhole>
VECTOR_INLINE void smallWindow(const DepthwiseShape& shape, const Span& rows, int64_t first, int64_t last,
                               const float* x, const float* dy, Vec (&sums)[3][3]) {
  const int64_t channels = shape.channels, width = shape.width * channels;
  const auto edge = [&](int64_t column) __attribute__((always_inline)) FORNAX_VECTOR_TARGET {
    const Vec gradient = load(dy + column * channels);
    const int64_t left = column * kStride - shape.padding;
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      if (left + j < 0 || left + j >= shape.width) continue;
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        if (!kWhole && (i < rows.first || i >= rows.last)) continue;
        sums[i][j] += gradient * load(x + i * width + (column * kStride + j) * channels);
      }
    }
  };
  for (int64_t column = 0; column < first; ++column) edge(column);
  constexpr int kCount = 3;  // results in one go: they share pixels
  int64_t column = first;
  for (; column + kCount <= last; column += kCount) {
    Vec gradients[kCount];
#pragma GCC unroll 3
    for (int t = 0; t < kCount; ++t) gradients[t] = load(dy + (column + t) * channels);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      if (!kWhole && (i < rows.first || i >= rows.last)) continue;
      const float* const row = x + i * width + column * kStride * channels;
#pragma GCC unroll 8
      for (int k = 0; k < (kCount - 1) * kStride + 3; ++k) {
        const Vec pixel = load(row + k * channels);
#pragma GCC unroll 3
        for (int t = 0; t < kCount; ++t) {
          const int j = k - t * kStride;
          if (j >= 0 && j < 3) sums[i][j] += gradients[t] * pixel;
        }
      }
    }
  }
  for (; column < shape.out_width; ++column) edge(column);
}

template <int kStride>
FORNAX_VECTOR_TARGET void smallWeightGradient(const DepthwiseShape& shape, int64_t first, int64_t last,
                                              const float* x, const float* dy, float* sums) {
  const int64_t channels = shape.channels;
  int64_t inside, outside;
  interiorOf<3, kStride>(shape, inside, outside);
  for (int64_t block = 0; block < blocksOf(channels); ++block) {
    const int64_t start = startOf(block, channels);
    Vec parts[3][3] = {};
    for (int64_t y = first; y < last; ++y) {
      const int64_t top = y * kStride - shape.padding;
      const Span rows(top, 3, shape.height);
      const float* const window = x + (top * shape.width - shape.padding) * channels + start;
      const float* const gradients = dy + y * shape.out_width * channels + start;
      if (rows.first == 0 && rows.last == 3) {
        smallWindow<kStride, true>(shape, rows, inside, outside, window, gradients, parts);
      } else {
        smallWindow<kStride, false>(shape, rows, inside, outside, window, gradients, parts);
      }
    }
    float* const to = sums + block * 9 * kLanes;
    for (int tap = 0; tap < 9; ++tap) {
      store(to + tap * kLanes, load(to + tap * kLanes) + parts[tap / 3][tap % 3]);
    }
  }
}

template <int kKernel, int kStride>
FORNAX_VECTOR_TARGET void weightGradientOf(const DepthwiseShape& shape, int64_t first, int64_t last,
                                           const float* x, const float* dy, float* sums) {
  const int64_t channels = shape.channels;
  int64_t inside, outside;
  interiorOf<kKernel, kStride>(shape, inside, outside);
  for (int64_t block = 0; block < blocksOf(channels); ++block) {
    const int64_t start = startOf(block, channels);
    for (int64_t i = 0; i < kKernel; ++i) {
      Vec parts[2][kKernel] = {};
      for (int64_t y = first; y < last; ++y) {
        const int64_t from = y * kStride - shape.padding + i;
        if (from < 0 || from >= shape.height) continue;
        weightRow<kKernel, kStride>(shape, inside, outside, x + from * shape.width * channels + start,
                                    dy + y * shape.out_width * channels + start, parts);
      }
      float* const to = sums + (block * kKernel + i) * kKernel * kLanes;
      for (int j = 0; j < kKernel; ++j) {
        store(to + j * kLanes, load(to + j * kLanes) + (parts[0][j] + parts[1][j]));
      }
    }
  }
}

void forward(const DepthwiseShape& shape, int64_t row, const float* x, const float* weights,
             const float* bias, float* y) {
  const bool one = shape.stride == 1;
  if (shape.kernel == 3) {
    (one ? forwardRow<3, 1> : forwardRow<3, 2>)(shape, row, x, weights, bias, y);
  } else if (shape.kernel == 5) {
    (one ? forwardRow<5, 1> : forwardRow<5, 2>)(shape, row, x, weights, bias, y);
  } else {
    (one ? forwardRow<7, 1> : forwardRow<7, 2>)(shape, row, x, weights, bias, y);
  }
}

void weightGradient(const DepthwiseShape& shape, int64_t first, int64_t last, const float* x, const float* dy,
                    float* sums) {
  const bool one = shape.stride == 1;
  if (shape.kernel == 3) {
    (one ? smallWeightGradient<1> : smallWeightGradient<2>)(shape, first, last, x, dy, sums);
  } else if (shape.kernel == 5) {
    (one ? weightGradientOf<5, 1> : weightGradientOf<5, 2>)(shape, first, last, x, dy, sums);
  } else {
    (one ? weightGradientOf<7, 1> : weightGradientOf<7, 2>)(shape, first, last, x, dy, sums);
  }
}

constexpr DepthwiseKernels kDepthwiseKernels{FORNAX_VECTOR_LANES, forward, inputGradient, weightGradient};

}  // namespace

}  // namespace fornax::FORNAX_VECTOR_NAMESPACE
