#include "detect/decode.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "detect/nms.h"

namespace fornax {

namespace {

// Anchors whose score is above the threshold, best first; equal scores keep their order.
std::vector<int64_t> candidates(const float* scores, int64_t count, float confidence) {
  std::vector<int64_t> order;
  for (int64_t p = 0; p < count; ++p) {
    if (scores[p] > confidence) order.push_back(p);
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return order;
}

Box decodeBox(const float* loc, const float* prior, float width, float height, const DetectOptions& options) {
  const float w = prior[2] * std::exp(loc[2] * options.size_variance);
  const float h = prior[3] * std::exp(loc[3] * options.size_variance);
  const float x = prior[0] + loc[0] * options.center_variance * prior[2] - w / 2;
  const float y = prior[1] + loc[1] * options.center_variance * prior[3] - h / 2;
  return {x * width, y * height, (w + x) * width, (h + y) * height};
}

}  // namespace

Detections decodeFaces(const at::Tensor& priors, const at::Tensor& loc, const at::Tensor& scores,
                       const at::Tensor& landm, ImageSize size, const DetectOptions& options) {
  const float* prior = priors.const_data_ptr<float>();
  const float* offset = loc.const_data_ptr<float>();
  const float* point = landm.const_data_ptr<float>();
  const float* score = scores.const_data_ptr<float>();
  const auto width = static_cast<float>(size.width), height = static_cast<float>(size.height);

  std::vector<int64_t> order = candidates(score, priors.size(0), options.confidence);
  Detections result;
  result.candidates = static_cast<int64_t>(order.size());
  if (result.candidates > options.top_k) order.resize(options.top_k);
  std::vector<Box> boxes;
  boxes.reserve(order.size());
  for (int64_t p : order) boxes.push_back(decodeBox(offset + p * 4, prior + p * 4, width, height, options));
  for (int64_t i : suppress(boxes, options.nms, options.keep_top_k)) {
    const int64_t p = order[i];
    const Box& box = boxes[i];
    result.values.insert(result.values.end(), {box.x1, box.y1, box.x2, box.y2, score[p]});
    for (int64_t j = 0; j < 10; j += 2) {
      const float* at = prior + p * 4;
      const float* landmark = point + p * 10 + j;
      result.values.push_back((at[0] + landmark[0] * options.center_variance * at[2]) * width);
      result.values.push_back((at[1] + landmark[1] * options.center_variance * at[3]) * height);
    }
  }
  return result;
}

}  // namespace fornax
