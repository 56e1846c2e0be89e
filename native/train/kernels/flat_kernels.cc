#include "train/kernels/flat_kernels.h"

#include <cmath>

// The compiler makes a variant of each loop for each of these; the loader picks one. Compiled without errno
// and traps of floating-point functions (CMakeLists.txt), so that roots and choices become vector
// instructions.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define FORNAX_VARIANTS __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FORNAX_VARIANTS
#endif

namespace fornax {

FORNAX_VARIANTS void sgdFlat(float* __restrict p, const float* __restrict g, float* __restrict m, int64_t n,
                             const SgdRates& rates) {
  const auto [lr, weight_decay, momentum, undampened, nesterov] = rates;
  if (m == nullptr) {
    for (int64_t i = 0; i < n; ++i) p[i] -= lr * (g[i] + weight_decay * p[i]);
  } else if (nesterov) {
    for (int64_t i = 0; i < n; ++i) {
      const float gradient = g[i] + weight_decay * p[i];
      m[i] = momentum * m[i] + undampened * gradient;
      p[i] -= lr * (gradient + momentum * m[i]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      m[i] = momentum * m[i] + undampened * (g[i] + weight_decay * p[i]);
      p[i] -= lr * m[i];
    }
  }
}

namespace {

inline __attribute__((always_inline)) float lerp(float from, float to, float share) {
  return share < 0.5f ? from + share * (to - from) : to - (1 - share) * (to - from);
}

}  // namespace

FORNAX_VARIANTS void adamFlat(float* __restrict p, const float* __restrict g, float* __restrict m,
                              float* __restrict v, float* __restrict largest, int64_t n,
                              const AdamRates& rates) {
  const auto [step_size, correction, keep, weight_decay, beta1_share, beta2, beta2_share, eps] = rates;
  if (largest == nullptr) {
    for (int64_t i = 0; i < n; ++i) {
      const float gradient = g[i] + weight_decay * p[i];
      m[i] = lerp(m[i], gradient, beta1_share);
      v[i] = beta2 * v[i] + beta2_share * gradient * gradient;
      p[i] = keep * p[i] - step_size * m[i] / (std::sqrt(v[i]) * correction + eps);
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const float gradient = g[i] + weight_decay * p[i];
    m[i] = lerp(m[i], gradient, beta1_share);
    v[i] = beta2 * v[i] + beta2_share * gradient * gradient;
    // In this order a NaN in v stays one.
    largest[i] = largest[i] > v[i] ? largest[i] : v[i];
    p[i] = keep * p[i] - step_size * m[i] / (std::sqrt(largest[i]) * correction + eps);
  }
}

FORNAX_VARIANTS void lerpFlat(float* __restrict average, const float* __restrict x, int64_t n, float share) {
  for (int64_t i = 0; i < n; ++i) average[i] = lerp(average[i], x[i], share);
}

FORNAX_VARIANTS void scaleFlat(float* x, int64_t n, float factor) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

FORNAX_VARIANTS double squaresFlat(const float* x, int64_t n) {
  constexpr int kLanes = 16;
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) sums[k] += static_cast<double>(x[i + k]) * static_cast<double>(x[i + k]);
  }
  for (int k = 0; i < n; ++i, ++k) sums[k] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (const double each : sums) sum += each;
  return sum;
}

}  // namespace fornax
