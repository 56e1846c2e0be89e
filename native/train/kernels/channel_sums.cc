#include "train/kernels/channel_sums.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>

namespace fornax {

namespace {

// Long enough that a loop over the vectors of one row hides what the sums wait for.
constexpr int64_t kShortestWidth = 128;
// Values that are worth a thread of their own.
constexpr int64_t kSmallestPiece = 16 * 1024;
// Rows whose mean is taken as the centre of the deviations.
constexpr int64_t kCenterRows = 16;

Element elementOf(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? Element::Float32 : Element::BFloat16;
}

// The mean of a few rows from all over x. Sums of squared deviations from it lose nothing to cancellation,
// as they would from zero if the mean is large against the deviation.
template <typename T>
std::vector<float> centerOf(const at::Tensor& x, int64_t channels) {
  const T* const values = x.const_data_ptr<T>();
  const int64_t rows = x.numel() / channels;
  const int64_t taken = std::min(rows, kCenterRows);
  std::vector<float> center(channels, 0.0f);
  for (int64_t k = 0; k < taken; ++k) {
    const T* const row = values + k * rows / taken * channels;
    for (int64_t c = 0; c < channels; ++c) center[c] += static_cast<float>(row[c]);
  }
  for (float& value : center) value /= static_cast<float>(taken);
  return center;
}

// Adds up what the pieces found, in their order, and the repetitions of each channel.
std::vector<double> fold(const std::vector<double>& sums, int64_t pieces, const RowPeriod& period) {
  std::vector<double> folded(2 * period.channels, 0.0);
  for (int64_t p = 0; p < 2 * pieces; ++p) {
    const double* const from = sums.data() + p * period.width;
    double* const to = folded.data() + (p % 2) * period.channels;
    for (int64_t r = 0; r < period.rows; ++r) {
      for (int64_t c = 0; c < period.channels; ++c) to[c] += from[r * period.channels + c];
    }
  }
  return folded;
}

template <typename Work>
std::vector<double> sumOver(const RowPieces& pieces, const Work& work) {
  const RowPeriod& period = pieces.period();
  std::vector<double> sums(2 * period.width * pieces.size(), 0.0);
  std::vector<float> scratch(2 * period.width * pieces.size());
  pieces.forEach([&](int64_t index, const RowPiece& piece) {
    const int64_t first = 2 * period.width * index;
    work(piece, sums.data() + first, scratch.data() + first);
  });
  return fold(sums, pieces.size(), period);
}

}  // namespace

RowPeriod::RowPeriod(int64_t channels) : channels(channels) {
  rows = rowKernels().lanes / std::gcd(channels, static_cast<int64_t>(rowKernels().lanes));
  const int64_t width_of_one = rows * channels;
  rows *= (kShortestWidth + width_of_one - 1) / width_of_one;
  width = rows * channels;
}

PeriodicConstants::PeriodicConstants(const at::Tensor& constants, const RowPeriod& period,
                                     std::initializer_list<int> rows)
    : width_(period.width), values_(rows.size() * period.width) {
  float* to = values_.data();
  for (int row : rows) {
    const float* const from = constants.const_data_ptr<float>() + row * period.channels;
    for (int64_t r = 0; r < period.rows; ++r) to = std::copy(from, from + period.channels, to);
  }
}

void* RowPiece::of(const at::Tensor& tensor) const {
  if (!tensor.defined()) return nullptr;
  return static_cast<char*>(tensor.data_ptr()) + first * static_cast<int64_t>(tensor.element_size());
}

RowPieces::RowPieces(const at::Tensor& x, const RowPeriod& period) : period_(period), count_(x.numel()) {
  const int64_t periods = (count_ + period.width - 1) / period.width;
  const int64_t wanted = std::clamp<int64_t>(count_ / kSmallestPiece, 1, at::get_num_threads());
  length_ = std::max<int64_t>((periods + wanted - 1) / wanted, 1);
  pieces_ = (periods + length_ - 1) / length_;
}

void RowPieces::forEach(const std::function<void(int64_t, const RowPiece&)>& work) const {
  at::parallel_for(0, pieces_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t first = index * length_ * period_.width;
      const int64_t last = std::min(first + length_ * period_.width, count_);
      work(index, {first, {last - first, period_.width}});
    }
  });
}

std::vector<double> channelMoments(const at::Tensor& x, Element type) {
  const int64_t channels = x.size(1);
  const RowPeriod period(channels);
  std::vector<float> center =
      type == Element::Float32 ? centerOf<float>(x, channels) : centerOf<at::BFloat16>(x, channels);
  std::vector<float> repeated(period.width);
  for (int64_t i = 0; i < period.width; ++i) repeated[i] = center[i % channels];
  std::vector<double> moments =
      sumOver(RowPieces(x, period), [&](const RowPiece& piece, double* sums, float* scratch) {
        rowKernels().moments(piece.rows, type, piece.of(x), repeated.data(), sums, scratch);
      });
  const auto count = static_cast<double>(x.numel() / channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double shift = moments[c] / count;
    moments[c] = center[c] + shift;
    // Not std::max, which would turn what is not a number into 0.
    const double variance = moments[channels + c] / count - shift * shift;
    moments[channels + c] = variance < 0 ? 0 : variance;
  }
  return moments;
}

std::vector<double> gradientSums(const RowPieces& pieces, const Activation& activation, const at::Tensor& x,
                                 const at::Tensor& dy, const at::Tensor& y, const at::Tensor& constants,
                                 const at::Tensor& masked) {
  const PeriodicConstants repeated(constants, pieces.period(), {0, 2, 3});
  return sumOver(pieces, [&](const RowPiece& piece, double* sums, float* scratch) {
    rowKernels().gradientSums(piece.rows, activation, elementOf(x), elementOf(dy), piece.of(x), piece.of(dy),
                              piece.of(y), {repeated[1], repeated[2]}, repeated[0], piece.of(masked), sums,
                              scratch);
  });
}

}  // namespace fornax
