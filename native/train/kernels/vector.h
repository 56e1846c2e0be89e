// The compiler's vector types and what the kernels are made of. Included by one unit per instruction set,
// which defines
//   FORNAX_VECTOR_LANES      floats per vector
//   FORNAX_VECTOR_TARGET     the target attribute of every function
//   FORNAX_VECTOR_NAMESPACE  a name of its own, so that the variants stay apart
// No header of the standard library is used in the kernels: inline functions of those would be compiled for
// this instruction set as well, and the linker might keep that copy for everyone.
#pragma once

#include <stdint.h>

#if FORNAX_VECTOR_LANES == 16
#include <immintrin.h>
// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake
// (PR105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call: what takes them is inlined

#define VECTOR_INLINE FORNAX_VECTOR_TARGET inline __attribute__((always_inline))

namespace fornax::FORNAX_VECTOR_NAMESPACE {

namespace {

constexpr int64_t kLanes = FORNAX_VECTOR_LANES;

using Vec = float __attribute__((vector_size(4 * FORNAX_VECTOR_LANES)));
using Bits = uint32_t __attribute__((vector_size(4 * FORNAX_VECTOR_LANES)));
using Ints = int32_t __attribute__((vector_size(4 * FORNAX_VECTOR_LANES)));
using Halves = uint16_t __attribute__((vector_size(2 * FORNAX_VECTOR_LANES)));

using BFloat = uint16_t;

// ---- memory

VECTOR_INLINE Vec splat(float value) {
  return Vec{} + value;
}

VECTOR_INLINE Vec load(const float* from) {
  Vec value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

VECTOR_INLINE Vec load(const BFloat* from) {
  Halves half;
  __builtin_memcpy(&half, from, sizeof half);
  return (Vec)(__builtin_convertvector(half, Bits) << 16);
}

VECTOR_INLINE void store(float* to, Vec value) {
  __builtin_memcpy(to, &value, sizeof value);
}

// To the nearest, ties to even; not a number stays so.
VECTOR_INLINE void store(BFloat* to, Vec value) {
  const Bits bits = (Bits)value;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits result = value == value ? rounded : Bits{} + 0x7fc0u;
  const Halves half = __builtin_convertvector(result, Halves);
  __builtin_memcpy(to, &half, sizeof half);
}

// The first `count` values; the others are taken from `rest`, or 0.
template <typename T>
VECTOR_INLINE Vec loadPart(const T* from, int64_t count) {
  T values[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = from[i];
  return load(values);
}

template <typename T>
VECTOR_INLINE void storePart(T* to, Vec value, int64_t count) {
  T values[kLanes];
  store(values, value);
  for (int64_t i = 0; i < count; ++i) to[i] = values[i];
}

template <bool kWhole, typename T>
VECTOR_INLINE Vec get(const T* from, int64_t count) {
  if constexpr (kWhole) {
    return load(from);
  } else {
    return loadPart(from, count);
  }
}

template <bool kWhole, typename T>
VECTOR_INLINE void put(T* to, Vec value, int64_t count) {
  if constexpr (kWhole) {
    store(to, value);
  } else {
    storePart(to, value, count);
  }
}

// ---- functions

// e^x to about two units in the last place: 2^n · e^r with |r| ≤ ln 2 / 2 and the polynomial of Cephes' expf.
VECTOR_INLINE Vec exponential(Vec x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer
  const Vec shifted = x * 1.44269504088896341f + kRound;
  const Vec n = shifted - kRound;
  const Vec r = x - n * 0.693359375f - n * -2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return (Vec)((Ints)p + ((Ints)shifted << 23));
}

// Below it a sigmoid is no normal number any more, and taken for 0: so that x · sigmoid(x) does not grow
// again where x is huge.
constexpr float kSigmoidIsZero = -88.0f;

#if FORNAX_VECTOR_LANES == 16
// As below, with what AVX-512 has for it: scaling by powers of two that saturates by itself, and a reciprocal
// of 14 bits, which one step of Newton's makes exact to the last place or two.
VECTOR_INLINE Vec sigmoid(Vec value) {
  // Far out, n has no bits left for what is behind the point, and r would be anything. Of two operands one of
  // which is not a number, the second one is taken: not a number stays so.
  const __m512 x =
      _mm512_max_ps(_mm512_set1_ps(kSigmoidIsZero), _mm512_min_ps(_mm512_set1_ps(88.0f), (__m512)value));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504088896341f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), -x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  // Beyond, the reciprocal would lose its smallest values, and Newton's step make inf · 0 of the largest.
  const __m512 power = _mm512_scalef_ps(p, _mm512_min_ps(_mm512_set1_ps(125.0f), n));
  const __m512 sum = _mm512_add_ps(power, _mm512_set1_ps(1.0f));
  const __m512 guess = _mm512_rcp14_ps(sum);
  const __mmask16 normal = _mm512_cmp_ps_mask((__m512)value, _mm512_set1_ps(kSigmoidIsZero), _CMP_NLT_UQ);
  return (Vec)_mm512_maskz_mul_ps(normal, guess, _mm512_fnmadd_ps(sum, guess, _mm512_set1_ps(2.0f)));
}
#else
VECTOR_INLINE Vec sigmoid(Vec x) {
  const Vec normal = 1.0f / (1.0f + exponential(-x));
  return x < kSigmoidIsZero ? Vec{} : normal;
}
#endif

}  // namespace

}  // namespace fornax::FORNAX_VECTOR_NAMESPACE
