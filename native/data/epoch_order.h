// The order of an epoch's samples: a function of (seed, epoch) alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "data/random.h"

namespace fornax {

// Fisher & Yates, from the end.
inline void shuffleEpoch(std::vector<int32_t>& order, uint64_t seed, int64_t epoch) {
  if (order.empty()) return;
  RandomStream random(seed, static_cast<uint64_t>(epoch), 0, RandomOperation::Shuffle);
  for (size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[random.below(static_cast<uint32_t>(i + 1))]);
  }
}

}  // namespace fornax
