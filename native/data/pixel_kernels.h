// The three inner loops of the image path, in plain C++ and, where the processor has it, in AVX2 or AVX-512.
// All variants give the same bytes (the float rows: the same up to the rounding of one fused multiply-add).
#pragma once

#include <cstdint>

namespace fornax {

// Rows handed to `horizontal` must be readable this many bytes past their end, rows it writes writable.
constexpr int64_t kRowPadding = 64;

struct PixelKernels {
  const char* name;

  // out[i] = round(Σ_k weights[k] · rows[k][i] / 2^shift) for i < n. `taps` is even; weights are not negative
  // and sum to 2^shift. Touches nothing outside [0, n).
  void (*vertical)(const uint8_t* const* rows, const int16_t* weights, int taps, int shift, int64_t n,
                   uint8_t* out);

  // out[3x + c] = round(Σ_k weight(x, k) · row[starts[x] + 3k + c] / 2^shift) for x < n; RGB. `starts` are in
  // bytes; `quads` holds, for each x and each four taps (w0 w1 w2 w3), the sixteen numbers
  // w0 w1 w0 w1 w0 w1 w0 w1 w2 w3 w2 w3 w2 w3 w2 w3, so that one multiply-add serves three channels.
  void (*horizontal3)(const uint8_t* row, const int32_t* starts, const int16_t* quads, int taps, int shift,
                      int64_t n, uint8_t* out);

  // out[i] = row[i] · scale[i mod 48] + bias[i mod 48]: 48 is a multiple of 1 and 3 channels and of every
  // vector width. `stream`: write around the cache (out must then be aligned to 64 bytes).
  void (*normalize)(const uint8_t* row, const float* scale, const float* bias, int64_t n, bool stream,
                    float* out);

  // Orders streamed writes before whatever another thread is told next.
  void (*fence)();
};

constexpr int64_t kNormalizePeriod = 48;

// The fastest variant this processor runs, chosen once. FORNAX_PIXEL_KERNELS names another, for tests and bug
// reports; a name this processor cannot run is ignored.
const PixelKernels& pixelKernels();

// A variant by name ("portable", "avx2", "avx512"), or null if this processor cannot run it.
const PixelKernels* pixelKernels(const char* name);

namespace kernels {
// Defined in pixel_kernels_x86.cc; null where not available.
const PixelKernels* avx2();
const PixelKernels* avx512();
}  // namespace kernels

}  // namespace fornax
