#include "data/pixel_kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace fornax {

namespace {

// Plain loops that a compiler vectorises for whatever it targets (SSE2, NEON).
void verticalPortable(const uint8_t* const* rows, const int16_t* weights, int taps, int shift, int64_t n,
                      uint8_t* out) {
  constexpr int64_t kBlock = 256;
  int32_t sums[kBlock];
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t count = std::min(kBlock, n - first);
    std::fill_n(sums, count, 1 << (shift - 1));
    for (int k = 0; k < taps; ++k) {
      const uint8_t* row = rows[k] + first;
      const int32_t weight = weights[k];
      for (int64_t i = 0; i < count; ++i) sums[i] += weight * row[i];
    }
    for (int64_t i = 0; i < count; ++i) out[first + i] = static_cast<uint8_t>(sums[i] >> shift);
  }
}

void horizontal3Portable(const uint8_t* row, const int32_t* starts, const int16_t* quads, int taps, int shift,
                         int64_t n, uint8_t* out) {
  const int32_t half = 1 << (shift - 1);
  for (int64_t x = 0; x < n; ++x) {
    const uint8_t* p = row + starts[x];
    int32_t r = half, g = half, b = half;
    for (int k = 0; k < taps; k += 4, p += 12, quads += 16) {
      const int32_t w0 = quads[0], w1 = quads[1], w2 = quads[8], w3 = quads[9];
      r += w0 * p[0] + w1 * p[3] + w2 * p[6] + w3 * p[9];
      g += w0 * p[1] + w1 * p[4] + w2 * p[7] + w3 * p[10];
      b += w0 * p[2] + w1 * p[5] + w2 * p[8] + w3 * p[11];
    }
    *out++ = static_cast<uint8_t>(r >> shift);
    *out++ = static_cast<uint8_t>(g >> shift);
    *out++ = static_cast<uint8_t>(b >> shift);
  }
}

void normalizePortable(const uint8_t* row, const float* scale, const float* bias, int64_t n, bool /*stream*/,
                       float* out) {
  int64_t i = 0;
  for (; i + kNormalizePeriod <= n; i += kNormalizePeriod) {
    for (int64_t j = 0; j < kNormalizePeriod; ++j) out[i + j] = row[i + j] * scale[j] + bias[j];
  }
  for (int64_t j = 0; i + j < n; ++j) out[i + j] = row[i + j] * scale[j] + bias[j];
}

void fencePortable() {}

const PixelKernels kPortable{"portable", verticalPortable, horizontal3Portable, normalizePortable,
                             fencePortable};

}  // namespace

const PixelKernels* pixelKernels(const char* name) {
  for (const PixelKernels* kernels : {&kPortable, kernels::avx2(), kernels::avx512()}) {
    if (kernels && std::strcmp(kernels->name, name) == 0) return kernels;
  }
  return nullptr;
}

const PixelKernels& pixelKernels() {
  static const PixelKernels& best = []() -> const PixelKernels& {
    if (const char* name = std::getenv("FORNAX_PIXEL_KERNELS")) {
      if (const PixelKernels* kernels = pixelKernels(name)) return *kernels;
    }
    if (const PixelKernels* kernels = kernels::avx512()) return *kernels;
    if (const PixelKernels* kernels = kernels::avx2()) return *kernels;
    return kPortable;
  }();
  return best;
}

}  // namespace fornax
