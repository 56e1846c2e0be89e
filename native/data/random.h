// Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as
// easy as 1, 2, 3", SC'11, section 3.3). A draw is a pure function of (seed, epoch, sample, operation,
// position), so that what a loader delivers depends neither on the number of threads nor on the order in
// which they run.
#pragma once

#include <array>
#include <cstdint>

namespace fornax {

using PhiloxBlock = std::array<uint32_t, 4>;

inline PhiloxBlock philox(PhiloxBlock counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// What a stream of draws is for. The numbers are part of what a seed means: never reuse or reorder them.
enum class RandomOperation : uint32_t { Shuffle = 0, Crop = 1, Flip = 2, Mix = 3 };

// One stream of draws, 2^34 numbers long.
class RandomStream {
 public:
  // `sample` is 0 for draws that belong to a whole epoch. Epochs and samples count below 2^32.
  RandomStream(uint64_t seed, uint64_t epoch, uint64_t sample, RandomOperation operation)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        counter_{0, static_cast<uint32_t>(operation), static_cast<uint32_t>(sample),
                 static_cast<uint32_t>(epoch)} {}

  uint32_t next() {
    if (position_ == 4) {
      block_ = philox(counter_, key_);
      ++counter_[0];
      position_ = 0;
    }
    return block_[position_++];
  }

  // In [0, 1), 32 bits of it.
  double uniform() { return next() * 0x1p-32; }

  // In [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // In [0, n), without bias, n > 0 (Lemire, "Fast random integer generation in an interval", 2019).
  uint32_t below(uint32_t n) {
    uint64_t product = uint64_t{next()} * n;
    if (static_cast<uint32_t>(product) < n) {
      const uint32_t threshold = -n % n;
      while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next()} * n;
    }
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  std::array<uint32_t, 2> key_;
  PhiloxBlock counter_;
  PhiloxBlock block_{};
  int position_ = 4;
};

}  // namespace fornax
