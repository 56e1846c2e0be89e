// Work over rows (row_kernels.h) on several threads, and sums per channel put together from their parts. Who
// computes what depends on the number of threads alone, never on their timing, so that results are the same
// bit for bit in every run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <vector>

#include "train/kernels/row_kernels.h"

namespace fornax {

// How many rows make up whole vectors.
struct RowPeriod {
  explicit RowPeriod(int64_t channels);
  int64_t channels;
  int64_t rows;   // in one period
  int64_t width;  // rows · channels
};

// Rows of a [rows of constants, C] tensor, each repeated to the period.
class PeriodicConstants {
 public:
  PeriodicConstants(const at::Tensor& constants, const RowPeriod& period, std::initializer_list<int> rows);
  const float* operator[](int row) const { return values_.data() + row * width_; }

 private:
  int64_t width_;
  std::vector<float> values_;
};

// Consecutive values of tensors that lie row by row, beginning at a whole period.
struct RowPiece {
  int64_t first;
  Rows rows;
  // Where the piece begins; null for an undefined tensor.
  void* of(const at::Tensor& tensor) const;
};

class RowPieces {
 public:
  RowPieces(const at::Tensor& x, const RowPeriod& period);
  int64_t size() const { return pieces_; }
  const RowPeriod& period() const { return period_; }
  // On all threads.
  void forEach(const std::function<void(int64_t index, const RowPiece& piece)>& work) const;

 private:
  RowPeriod period_;
  int64_t count_;  // values
  int64_t pieces_;
  int64_t length_;  // periods in a piece
};

// Mean and population variance of each channel: 2 · C numbers.
std::vector<double> channelMoments(const at::Tensor& x, Element type);

// The sums of RowKernels::gradientSums per channel: 2 · C numbers. Rows of `constants`: mean, 1 / deviation,
// scale, shift. `masked` receives g if `y` is defined.
std::vector<double> gradientSums(const RowPieces& pieces, const Activation& activation, const at::Tensor& x,
                                 const at::Tensor& dy, const at::Tensor& y, const at::Tensor& constants,
                                 const at::Tensor& masked);

}  // namespace fornax
