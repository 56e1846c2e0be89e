// Lists of tensors on the CPU, walked as flat float32 memory by all threads together.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace fornax {

inline bool isFlat(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_non_overlapping_and_dense();
}

inline bool sameFlatLayout(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && (a.strides() == b.strides() || (a.is_contiguous() && b.is_contiguous()));
}

// Whether element i in memory is the same element of the tensors in all lists. Empty lists do not count.
inline bool walkTogether(at::TensorList first, std::initializer_list<at::TensorList> others = {}) {
  if (!std::all_of(first.begin(), first.end(), isFlat)) return false;
  for (const at::TensorList other : others) {
    if (other.empty()) continue;
    if (other.size() != first.size()) return false;
    for (size_t i = 0; i < first.size(); ++i) {
      if (!isFlat(other[i]) || !sameFlatLayout(first[i], other[i])) return false;
    }
  }
  return true;
}

inline std::vector<float*> pointers(at::TensorList tensors) {
  std::vector<float*> result;
  result.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) result.push_back(tensor.mutable_data_ptr<float>());
  return result;
}

inline std::vector<const float*> constPointers(at::TensorList tensors) {
  std::vector<const float*> result;
  result.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) result.push_back(tensor.const_data_ptr<float>());
  return result;
}

// Elements: ranges begin at multiples of a cache line, as the tensors themselves do.
constexpr int64_t kFlatUnit = 16;
// Units worth a thread: 128 KiB of each list.
constexpr int64_t kFlatGrain = 2048;

// Calls function(tensor, begin, size) for ranges of elements that together are all of them, shared evenly
// among the threads.
template <typename Function>
void overElements(at::TensorList tensors, const Function& function) {
  std::vector<int64_t> ends;  // in units, added up
  ends.reserve(tensors.size());
  int64_t total = 0;
  for (const at::Tensor& tensor : tensors) {
    ends.push_back(total += (tensor.numel() + kFlatUnit - 1) / kFlatUnit);
  }
  at::parallel_for(0, total, kFlatGrain, [&](int64_t from, int64_t to) {
    size_t i = std::upper_bound(ends.begin(), ends.end(), from) - ends.begin();
    for (; from < to; ++i) {
      const int64_t start = i == 0 ? 0 : ends[i - 1];
      const int64_t until = std::min(to, ends[i]);
      const int64_t begin = (from - start) * kFlatUnit;
      const int64_t end = std::min((until - start) * kFlatUnit, tensors[i].numel());
      if (end > begin) function(i, begin, end - begin);
      from = until;
    }
  });
}

// Σ over pieces of `size` elements of function(data, size), added up in one order whatever the threads do.
template <typename Function>
double sumOverPieces(at::TensorList tensors, int64_t size, const Function& function) {
  struct Piece {
    const float* data;
    int64_t size;
  };
  std::vector<Piece> pieces;
  for (const at::Tensor& tensor : tensors) {
    const float* data = tensor.const_data_ptr<float>();
    for (int64_t begin = 0; begin < tensor.numel(); begin += size) {
      pieces.push_back({data + begin, std::min(size, tensor.numel() - begin)});
    }
  }
  std::vector<double> sums(pieces.size());
  const int64_t grain = std::max<int64_t>(1, kFlatGrain * kFlatUnit / size);
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), grain, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) sums[i] = function(pieces[i].data, pieces[i].size);
  });
  double sum = 0;
  for (const double each : sums) sum += each;
  return sum;
}

}  // namespace fornax
