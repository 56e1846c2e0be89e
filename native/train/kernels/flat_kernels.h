// Loops over flat float32 memory for what happens to parameters after backward. Each element's result is the
// same wherever a range begins or ends, so that it does not depend on how threads share the work. The widest
// vectors that the processor has are chosen at run time; ranges that begin at a multiple of 64 bytes are
// fastest.
#pragma once

#include <cstdint>

namespace fornax {

// p ← p − lr·u with g' = g + weight_decay·p, m ← momentum·m + undampened·g' and u = m, or g' + momentum·m
// with `nesterov`, or g' without momentum (m is null then): torch.optim.SGD.
struct SgdRates {
  float lr, weight_decay, momentum, undampened;
  bool nesterov;
};
void sgdFlat(float* p, const float* g, float* m, int64_t n, const SgdRates& rates);

// torch.optim.Adam and AdamW. The bias corrections of the step are in `step_size` = lr / (1 − β1ᵗ) and
// `correction` = 1 / √(1 − β2ᵗ). `keep` = 1 − lr·weight_decay multiplies p first (AdamW; else 1),
// `weight_decay`·p goes into the gradient (Adam; else 0). `largest` (amsgrad) may be null.
struct AdamRates {
  float step_size, correction, keep, weight_decay, beta1_share, beta2, beta2_share, eps;
};
void adamFlat(float* p, const float* g, float* m, float* v, float* largest, int64_t n,
              const AdamRates& rates);

// average ← average + share·(x − average), from the nearer end as at::lerp.
void lerpFlat(float* average, const float* x, int64_t n, float share);

// x ← x·factor
void scaleFlat(float* x, int64_t n, float factor);

// Σ x², in double.
double squaresFlat(const float* x, int64_t n);

}  // namespace fornax
