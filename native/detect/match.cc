#include "detect/match.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace fornax {

namespace {

constexpr float kHardFace = 0.2f;
constexpr int64_t kBlock = 1024;

// Corners and areas of a block of anchors, by coordinate, so that the loops over them vectorise.
struct AnchorBlock {
  float x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock], area[kBlock];
  int64_t size = 0;

  AnchorBlock(const float* priors, int64_t count) : size(count) {
    for (int64_t p = 0; p < size; ++p) {
      const float* prior = priors + p * 4;
      x1[p] = prior[0] - prior[2] / 2;
      y1[p] = prior[1] - prior[3] / 2;
      x2[p] = prior[0] + prior[2] / 2;
      y2[p] = prior[1] + prior[3] / 2;
    }
    for (int64_t p = 0; p < size; ++p) area[p] = (x2[p] - x1[p]) * (y2[p] - y1[p]);
  }

  // Intersection over union with one box. Two loops: a compiler must not contract the product of the first
  // and the difference of the second into one rounding.
  void overlaps(const float* box, float box_area, float* out) const {
    for (int64_t p = 0; p < size; ++p) {
      const float width = std::min(box[2], x2[p]) - std::max(box[0], x1[p]);
      const float height = std::min(box[3], y2[p]) - std::max(box[1], y1[p]);
      out[p] = std::max(width, 0.0f) * std::max(height, 0.0f);
    }
    for (int64_t p = 0; p < size; ++p) out[p] = out[p] / (box_area + area[p] - out[p]);
  }
};

struct Best {
  float overlap = -1;
  int64_t index = 0;

  void offer(float value, int64_t candidate) {
    if (value > overlap) *this = {value, candidate};
  }
};

bool hasArea(const float* box) {
  return box[2] > box[0] && box[3] > box[1];
}

void encodeBox(const float* box, const float* prior, float center, float size, float* out) {
  out[0] = ((box[0] + box[2]) / 2 - prior[0]) / (center * prior[2]);
  out[1] = ((box[1] + box[3]) / 2 - prior[1]) / (center * prior[3]);
  out[2] = std::log((box[2] - box[0]) / prior[2]) / size;
  out[3] = std::log((box[3] - box[1]) / prior[3]) / size;
}

void encodeLandmarks(const float* points, const float* prior, float center, float* out) {
  for (int i = 0; i < 10; i += 2) {
    out[i] = (points[i] - prior[0]) / (center * prior[2]);
    out[i + 1] = (points[i + 1] - prior[1]) / (center * prior[3]);
  }
}

}  // namespace

void matchPriors(const float* priors, int64_t count, const FaceTargets& faces, float threshold,
                 at::ArrayRef<double> variances, const AnchorTargets& targets) {
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<Best> best_face(count);
  std::vector<Best> block_best(blocks * faces.count);
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    float overlap[kBlock];
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kBlock;
      const AnchorBlock block(priors + first * 4, std::min(kBlock, count - first));
      for (int64_t f = 0; f < faces.count; ++f) {
        const float* box = faces.boxes + f * 4;
        block.overlaps(box, (box[2] - box[0]) * (box[3] - box[1]), overlap);
        Best& best = block_best[b * faces.count + f];
        for (int64_t p = 0; p < block.size; ++p) {
          best.offer(overlap[p], first + p);
          best_face[first + p].offer(overlap[p], f);
        }
      }
    }
  });

  std::vector<Best> best_prior(faces.count);
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t f = 0; f < faces.count; ++f) {
      const Best& best = block_best[b * faces.count + f];
      best_prior[f].offer(best.overlap, best.index);
    }
  }
  const bool any =
      std::any_of(best_prior.begin(), best_prior.end(), [](const Best& b) { return b.overlap >= kHardFace; });
  if (!any) {
    std::fill_n(targets.loc, count * 4, 0.0f);
    std::fill_n(targets.conf, count, 0);
    std::fill_n(targets.landm, count * 10, 0.0f);
    return;
  }
  for (const Best& best : best_prior) {
    if (best.overlap >= kHardFace) best_face[best.index].overlap = 2;
  }
  for (int64_t f = 0; f < faces.count; ++f) {
    // A face that overlaps nothing takes the first anchor of all, as in the original; but the target of one
    // without area would be the logarithm of 0.
    if (hasArea(faces.boxes + f * 4)) best_face[best_prior[f].index].index = f;
  }

  const auto center = static_cast<float>(variances[0]), size = static_cast<float>(variances[1]);
  at::parallel_for(0, count, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const auto& [overlap, f] = best_face[p];
      const float* prior = priors + p * 4;
      targets.conf[p] = overlap < threshold ? 0 : faces.labels[f];
      encodeBox(faces.boxes + f * 4, prior, center, size, targets.loc + p * 4);
      encodeLandmarks(faces.landmarks + f * 10, prior, center, targets.landm + p * 10);
    }
  });
}

}  // namespace fornax
