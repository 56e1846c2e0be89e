// Weights of the micro-batches of an optimizer step, so that their gradients add up to the mean over all
// rows, though neither how many come nor how large they are is known when the first is computed.
#pragma once

#include <cstdint>

namespace fornax {

class RowWeights {
 public:
  // `wanted`: micro-batches of a step that an epoch's end does not cut short.
  explicit RowWeights(int64_t wanted) : wanted_(wanted) {}

  // Of the next micro-batch: its share if all `wanted` had as many rows as the first.
  double next(int64_t rows) {
    if (first_ == 0) first_ = rows;
    rows_ += rows;
    return static_cast<double>(rows) / static_cast<double>(wanted_ * first_);
  }

  // What the weighted sum is to be multiplied by; 1 where all came and are alike.
  double correction() const {
    return rows_ == 0 ? 1 : static_cast<double>(wanted_ * first_) / static_cast<double>(rows_);
  }

 private:
  int64_t wanted_;
  int64_t first_ = 0;  // rows of the first
  int64_t rows_ = 0;   // of all so far
};

}  // namespace fornax
