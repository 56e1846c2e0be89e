#include "data/resize.h"

#include <algorithm>
#include <cmath>

namespace fornax {

namespace {
// Rows of a cropped image are short and far apart, so that the processor's own prefetcher sees no stream.
constexpr int64_t kRowsAhead = 8;
}  // namespace

void ResizeAxis::build(int64_t in, int64_t out, int64_t first, int64_t count, bool reverse, int multiple) {
  // Pillow, src/libImaging/Resample.c, precompute_coeffs() with the bilinear filter (support 1).
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double support = std::max(scale, 1.0);
  const double step = 1.0 / support;
  const int64_t most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;

  starts.resize(count);
  used.resize(count);
  exact_.resize(count * most);
  int64_t longest = 1;
  double largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t output = first + (reverse ? count - 1 - i : i);
    const double centre = (static_cast<double>(output) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const int64_t end = std::min<int64_t>(in, static_cast<int64_t>(centre + support + 0.5));
    double* row = exact_.data() + i * most;
    double sum = 0;
    int64_t n = 0, skipped = 0;
    double position = (static_cast<double>(begin) - centre + 0.5) * step;
    for (int64_t k = begin; k < end; ++k, position += step) {
      const double weight = std::max(0.0, 1.0 - std::abs(position));
      if (n == 0 && weight < 1e-6) {
        ++skipped;  // leading zeros only cost time
        continue;
      }
      row[n++] = weight;
      sum += weight;
    }
    while (n > 1 && row[n - 1] < 1e-6 * sum) sum -= row[--n];
    const double inverse = 1.0 / sum;
    for (int64_t k = 0; k < n; ++k) {
      row[k] *= inverse;
      largest = std::max(largest, row[k]);
    }
    starts[i] = static_cast<int32_t>(begin + skipped);
    used[i] = static_cast<int32_t>(n);
    longest = std::max(longest, n);
  }

  // As many fraction bits as fit: the largest weight into 15 bits, the sum of 255 · weights into 31.
  shift = std::min(22, static_cast<int>(std::floor(std::log2(32767.0 / largest))));
  taps = static_cast<int>((longest + multiple - 1) / multiple * multiple);
  weights.assign(count * taps, 0);
  const double unit = std::ldexp(1.0, shift);
  for (int64_t i = 0; i < count; ++i) {
    const double* row = exact_.data() + i * most;
    int16_t* to = weights.data() + i * taps;
    int32_t rest = 1 << shift;
    int64_t peak = 0;
    for (int64_t k = 0; k < used[i]; ++k) {
      to[k] = static_cast<int16_t>(row[k] * unit + 0.5);
      rest -= to[k];
      if (to[k] > to[peak]) peak = k;
    }
    // What rounding left over goes to the largest weight, so that a flat area keeps its exact value.
    to[peak] = static_cast<int16_t>(std::min<int32_t>(32767, to[peak] + rest));
  }
}

void RowResizer::start(const Window& window) {
  window_ = window;
  const int c = window.channels;
  vertical_.build(window.height, window.resized_height, window.top, window.rows, false, 2);
  horizontal_.build(window.width, window.resized_width, window.left, window.columns, window.reverse, 4);
  prefetched_ = vertical_.starts.empty() ? 0 : vertical_.starts[0];
  taps_.resize(vertical_.taps);
  // Taps of weight zero are read beyond the last pixel.
  line_.resize(window.width * c + horizontal_.taps * c + kRowPadding);

  byte_starts_.resize(window.columns);
  for (int64_t x = 0; x < window.columns; ++x) byte_starts_[x] = horizontal_.starts[x] * c;
  if (c != 3) return;
  quads_.resize(window.columns * horizontal_.taps * 4);
  int16_t* to = quads_.data();
  for (size_t k = 0; k < horizontal_.weights.size(); k += 2) {
    for (int repeat = 0; repeat < 4; ++repeat) {
      *to++ = horizontal_.weights[k];
      *to++ = horizontal_.weights[k + 1];
    }
  }
}

void RowResizer::prefetchTo(int64_t row) {
  const int64_t bytes = window_.width * window_.channels;
  for (; prefetched_ < row; ++prefetched_) {
    const uint8_t* line = window_.pixels + prefetched_ * window_.stride;
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(line + at, 0, 1);
  }
}

void RowResizer::row(int64_t i, uint8_t* out) {
  const int32_t first = vertical_.starts[i];
  prefetchTo(std::min(window_.height, int64_t{first} + vertical_.used[i] + kRowsAhead));
  const int taps = (vertical_.used[i] + 1) & ~1;
  for (int k = 0; k < taps; ++k) {
    const int64_t source = first + std::min<int64_t>(k, vertical_.used[i] - 1);
    taps_[k] = window_.pixels + source * window_.stride;
  }
  kernels_.vertical(taps_.data(), vertical_.weights.data() + i * vertical_.taps, taps, vertical_.shift,
                    window_.width * window_.channels, line_.data());
  if (window_.channels == 3) {
    kernels_.horizontal3(line_.data(), byte_starts_.data(), quads_.data(), horizontal_.taps,
                         horizontal_.shift, window_.columns, out);
    return;
  }
  const int16_t* weights = horizontal_.weights.data();
  for (int64_t x = 0; x < window_.columns; ++x, weights += horizontal_.taps) {
    const uint8_t* p = line_.data() + horizontal_.starts[x];
    int32_t sum = 1 << (horizontal_.shift - 1);
    for (int k = 0; k < horizontal_.taps; ++k) sum += weights[k] * p[k];
    out[x] = static_cast<uint8_t>(sum >> horizontal_.shift);
  }
}

}  // namespace fornax
