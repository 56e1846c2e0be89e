// The vector variants for x86-64. Each function carries its own target attribute, so that the binary as a
// whole runs on any x86-64 and the choice is made at run time.
#include "data/pixel_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake
// (PR105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#define FORNAX_AVX2 __attribute__((target("avx2,fma")))
#define FORNAX_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

namespace fornax {

namespace {

int32_t weightPair(const int16_t* weights) {
  int32_t pair;
  std::memcpy(&pair, weights, sizeof pair);
  return pair;
}

// Columns [first, first + 32): pairs of rows are interleaved so that one multiply-add does two taps.
FORNAX_AVX2 inline void verticalBlockAvx2(const uint8_t* const* rows, const int16_t* weights, int taps,
                                          int shift, int64_t first, uint8_t* out) {
  const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
  const __m128i count = _mm_cvtsi32_si128(shift);
  __m256i s0 = half, s1 = half, s2 = half, s3 = half;
  for (int k = 0; k < taps; k += 2) {
    const __m256i w = _mm256_set1_epi32(weightPair(weights + k));
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[k] + first));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[k + 1] + first));
    const __m256i zero = _mm256_setzero_si256();
    const __m256i lo = _mm256_unpacklo_epi8(a, b), hi = _mm256_unpackhi_epi8(a, b);
    s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi8(lo, zero), w));
    s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi8(lo, zero), w));
    s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi8(hi, zero), w));
    s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi8(hi, zero), w));
  }
  // unpack and pack both work within 128-bit lanes, so the order comes out right. (unpacklo of bytes and zero
  // gives a0 b0 a1 b1 as 16-bit numbers: what madd needs.)
  const __m256i p0 = _mm256_packs_epi32(_mm256_sra_epi32(s0, count), _mm256_sra_epi32(s1, count));
  const __m256i p1 = _mm256_packs_epi32(_mm256_sra_epi32(s2, count), _mm256_sra_epi32(s3, count));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + first), _mm256_packus_epi16(p0, p1));
}

void verticalTail(const uint8_t* const* rows, const int16_t* weights, int taps, int shift, int64_t n,
                  uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    int32_t sum = 1 << (shift - 1);
    for (int k = 0; k < taps; ++k) sum += weights[k] * rows[k][i];
    out[i] = static_cast<uint8_t>(sum >> shift);
  }
}

FORNAX_AVX2 void verticalAvx2(const uint8_t* const* rows, const int16_t* weights, int taps, int shift,
                              int64_t n, uint8_t* out) {
  if (n < 32) return verticalTail(rows, weights, taps, shift, n, out);
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) verticalBlockAvx2(rows, weights, taps, shift, i, out);
  // The last block overlaps the one before, so that nothing is read outside the rows.
  if (i < n) verticalBlockAvx2(rows, weights, taps, shift, n - 32, out);
}

FORNAX_AVX512 inline void verticalBlockAvx512(const uint8_t* const* rows, const int16_t* weights, int taps,
                                              int shift, int64_t first, __mmask64 mask, uint8_t* out) {
  const __m512i half = _mm512_set1_epi32(1 << (shift - 1));
  const __m128i count = _mm_cvtsi32_si128(shift);
  const __m512i zero = _mm512_setzero_si512();
  __m512i s0 = half, s1 = half, s2 = half, s3 = half;
  for (int k = 0; k < taps; k += 2) {
    const __m512i w = _mm512_set1_epi32(weightPair(weights + k));
    const __m512i a = _mm512_maskz_loadu_epi8(mask, rows[k] + first);
    const __m512i b = _mm512_maskz_loadu_epi8(mask, rows[k + 1] + first);
    const __m512i lo = _mm512_unpacklo_epi8(a, b), hi = _mm512_unpackhi_epi8(a, b);
    s0 = _mm512_add_epi32(s0, _mm512_madd_epi16(_mm512_unpacklo_epi8(lo, zero), w));
    s1 = _mm512_add_epi32(s1, _mm512_madd_epi16(_mm512_unpackhi_epi8(lo, zero), w));
    s2 = _mm512_add_epi32(s2, _mm512_madd_epi16(_mm512_unpacklo_epi8(hi, zero), w));
    s3 = _mm512_add_epi32(s3, _mm512_madd_epi16(_mm512_unpackhi_epi8(hi, zero), w));
  }
  const __m512i p0 = _mm512_packs_epi32(_mm512_sra_epi32(s0, count), _mm512_sra_epi32(s1, count));
  const __m512i p1 = _mm512_packs_epi32(_mm512_sra_epi32(s2, count), _mm512_sra_epi32(s3, count));
  _mm512_mask_storeu_epi8(out + first, mask, _mm512_packus_epi16(p0, p1));
}

FORNAX_AVX512 void verticalAvx512(const uint8_t* const* rows, const int16_t* weights, int taps, int shift,
                                  int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) verticalBlockAvx512(rows, weights, taps, shift, i, ~__mmask64{0}, out);
  if (i < n) verticalBlockAvx512(rows, weights, taps, shift, i, ~__mmask64{0} >> (64 - (n - i)), out);
}

// Sixteen bytes, in both lanes.
FORNAX_AVX2 inline __m256i loadTwice(const uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// The four taps of one pixel: sums over taps 0, 1 in the lower lane and 2, 3 in the upper (r g b 0 each).
FORNAX_AVX2 inline __m256i pixelSums(const uint8_t* p, const int16_t* quads, int taps, __m256i spread) {
  const auto weights = reinterpret_cast<const __m256i*>(quads);
  __m256i sum = _mm256_madd_epi16(_mm256_shuffle_epi8(loadTwice(p), spread), _mm256_loadu_si256(weights));
  for (int k = 4, q = 1; k < taps; k += 4, ++q) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(loadTwice(p + 12 * q), spread),
                                                  _mm256_loadu_si256(weights + q)));
  }
  return sum;
}

// Bytes r0 r1 | g0 g1 | b0 b1 | - of taps 0, 1 (lower lane) and of taps 2, 3 (upper lane), widened to 16
// bits.
FORNAX_AVX2 inline __m256i spreadMask() {
  return _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                          6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
}

FORNAX_AVX2 void horizontal3Avx2(const uint8_t* row, const int32_t* starts, const int16_t* quads, int taps,
                                 int shift, int64_t n, uint8_t* out) {
  const __m256i spread = spreadMask();
  const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
  const __m128i count = _mm_cvtsi32_si128(shift);
  const __m128i drop = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const int64_t step = taps * 4;  // int16s of one pixel
  int64_t x = 0;
  for (; x + 4 <= n; x += 4, quads += 4 * step, out += 12) {
    const __m256i a = pixelSums(row + starts[x], quads, taps, spread);
    const __m256i b = pixelSums(row + starts[x + 1], quads + step, taps, spread);
    const __m256i c = pixelSums(row + starts[x + 2], quads + 2 * step, taps, spread);
    const __m256i d = pixelSums(row + starts[x + 3], quads + 3 * step, taps, spread);
    const __m256i ac =
        _mm256_add_epi32(_mm256_permute2x128_si256(a, c, 0x20), _mm256_permute2x128_si256(a, c, 0x31));
    const __m256i bd =
        _mm256_add_epi32(_mm256_permute2x128_si256(b, d, 0x20), _mm256_permute2x128_si256(b, d, 0x31));
    const __m256i words = _mm256_packs_epi32(_mm256_sra_epi32(_mm256_add_epi32(ac, half), count),
                                             _mm256_sra_epi32(_mm256_add_epi32(bd, half), count));
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(bytes, drop));
  }
  for (; x < n; ++x, quads += step, out += 3) {
    const __m256i a = pixelSums(row + starts[x], quads, taps, spread);
    const __m128i sum =
        _mm_add_epi32(_mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)),
                      _mm256_castsi256_si128(half));
    const __m128i rgb = _mm_sra_epi32(sum, count);
    out[0] = static_cast<uint8_t>(_mm_extract_epi32(rgb, 0));
    out[1] = static_cast<uint8_t>(_mm_extract_epi32(rgb, 1));
    out[2] = static_cast<uint8_t>(_mm_extract_epi32(rgb, 2));
  }
}

// Sixteen bytes from each of two places, each in two lanes.
FORNAX_AVX512 inline __m512i loadPair(const uint8_t* a, const uint8_t* b) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(loadTwice(a)), loadTwice(b), 1);
}

// Products of the bytes at a and b with 32 weights, added in pairs.
FORNAX_AVX512 inline __m512i products(const uint8_t* a, const uint8_t* b, __m512i spread,
                                      const int16_t* quads) {
  return _mm512_madd_epi16(_mm512_shuffle_epi8(loadPair(a, b), spread), _mm512_loadu_si512(quads));
}

// [x0 + x1, x2 + x3, y0 + y1, y2 + y3] of the lanes of x and y.
FORNAX_AVX512 inline __m512i addLanes(__m512i x, __m512i y) {
  return _mm512_add_epi32(_mm512_shuffle_i64x2(x, y, 0x88), _mm512_shuffle_i64x2(x, y, 0xDD));
}

// Up to eight taps, which cover reductions to a third: one register holds two pixels of four taps, or one of
// eight.
FORNAX_AVX512 void horizontal3Avx512(const uint8_t* row, const int32_t* starts, const int16_t* quads,
                                     int taps, int shift, int64_t n, uint8_t* out) {
  if (taps > 8) return horizontal3Avx2(row, starts, quads, taps, shift, n, out);
  const __m512i spread = _mm512_broadcast_i64x4(spreadMask());
  const __m512i half = _mm512_set1_epi32(1 << (shift - 1));
  const __m128i count = _mm_cvtsi32_si128(shift);
  const __m128i drop = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const int64_t step = taps * 4;  // int16s of one pixel
  int64_t x = 0;
  for (; x + 4 <= n; x += 4, quads += 4 * step, out += 12) {
    const uint8_t* p[4] = {row + starts[x], row + starts[x + 1], row + starts[x + 2], row + starts[x + 3]};
    __m512i sums;
    if (taps == 4) {
      sums = addLanes(products(p[0], p[1], spread, quads), products(p[2], p[3], spread, quads + 32));
    } else {
      sums = addLanes(
          addLanes(products(p[0], p[0] + 12, spread, quads), products(p[1], p[1] + 12, spread, quads + 32)),
          addLanes(products(p[2], p[2] + 12, spread, quads + 64),
                   products(p[3], p[3] + 12, spread, quads + 96)));
    }
    const __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_sra_epi32(_mm512_add_epi32(sums, half), count));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(bytes, drop));
  }
  horizontal3Avx2(row, starts + x, quads, taps, shift, n - x, out);
}

void normalizeTail(const uint8_t* row, const float* scale, const float* bias, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = row[i] * scale[i] + bias[i];
}

FORNAX_AVX2 void normalizeAvx2(const uint8_t* row, const float* scale, const float* bias, int64_t n,
                               bool stream, float* out) {
  __m256 scales[3], biases[3];  // 24 floats are a whole period
  for (int j = 0; j < 3; ++j) {
    scales[j] = _mm256_loadu_ps(scale + 8 * j);
    biases[j] = _mm256_loadu_ps(bias + 8 * j);
  }
  int64_t i = 0;
  for (; i + 24 <= n; i += 24) {
    for (int j = 0; j < 3; ++j) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i + 8 * j));
      const __m256 pixels = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
      const __m256 values = _mm256_fmadd_ps(pixels, scales[j], biases[j]);
      if (stream) {
        _mm256_stream_ps(out + i + 8 * j, values);
      } else {
        _mm256_storeu_ps(out + i + 8 * j, values);
      }
    }
  }
  normalizeTail(row + i, scale, bias, n - i, out + i);
}

FORNAX_AVX512 void normalizeAvx512(const uint8_t* row, const float* scale, const float* bias, int64_t n,
                                   bool stream, float* out) {
  __m512 scales[3], biases[3];
  for (int j = 0; j < 3; ++j) {
    scales[j] = _mm512_loadu_ps(scale + 16 * j);
    biases[j] = _mm512_loadu_ps(bias + 16 * j);
  }
  int64_t i = 0;
  for (; i + 48 <= n; i += 48) {
    for (int j = 0; j < 3; ++j) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i + 16 * j));
      const __m512 pixels = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
      const __m512 values = _mm512_fmadd_ps(pixels, scales[j], biases[j]);
      if (stream) {
        _mm512_stream_ps(out + i + 16 * j, values);
      } else {
        _mm512_storeu_ps(out + i + 16 * j, values);
      }
    }
  }
  normalizeTail(row + i, scale, bias, n - i, out + i);
}

void fenceX86() {
  _mm_sfence();
}

const PixelKernels kAvx2{"avx2", verticalAvx2, horizontal3Avx2, normalizeAvx2, fenceX86};
const PixelKernels kAvx512{"avx512", verticalAvx512, horizontal3Avx512, normalizeAvx512, fenceX86};

}  // namespace

const PixelKernels* kernels::avx2() {
  static const bool available = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return available ? &kAvx2 : nullptr;
}

const PixelKernels* kernels::avx512() {
  static const bool available = kernels::avx2() && __builtin_cpu_supports("avx512f") &&
                                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                                __builtin_cpu_supports("avx512vl");
  return available ? &kAvx512 : nullptr;
}

}  // namespace fornax

#else

namespace fornax {
const PixelKernels* kernels::avx2() {
  return nullptr;
}
const PixelKernels* kernels::avx512() {
  return nullptr;
}
}  // namespace fornax

#endif
