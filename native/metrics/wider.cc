#include "metrics/wider.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fornax {

namespace {

constexpr size_t kPredictionValues = 5;
constexpr size_t kFaceValues = 4;

[[noreturn]] void refuse(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::Argument, what, where);
}

void checkValues(const std::vector<double>& values, size_t per_box, const std::vector<int64_t>& offsets,
                 const std::string& name) {
  if (offsets.empty() || offsets.front() != 0 || !std::is_sorted(offsets.begin(), offsets.end()) ||
      static_cast<size_t>(offsets.back()) * per_box != values.size()) {
    refuse("offsets must rise from 0 to the number of boxes", name + "_offsets");
  }
  if (!std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); })) {
    refuse("a value is not finite", name);
  }
}

// Scores scaled to 0…1 over the whole set.
std::vector<double> normalisedScores(const std::vector<double>& predictions) {
  // As in the original the highest is at least 0 and the lowest at most 1.
  double highest = 0;
  double lowest = 1;
  for (size_t i = kPredictionValues - 1; i < predictions.size(); i += kPredictionValues) {
    highest = std::max(highest, predictions[i]);
    lowest = std::min(lowest, predictions[i]);
  }
  std::vector<double> scores;
  scores.reserve(predictions.size() / kPredictionValues);
  for (size_t i = kPredictionValues - 1; i < predictions.size(); i += kPredictionValues) {
    scores.push_back(highest == lowest ? 1 : (predictions[i] - lowest) / (highest - lowest));
  }
  return scores;
}

// Intersection over union of [x, y, width, height] boxes; their last corner is x + width, and that pixel is
// still inside.
double overlap(const double* a, const double* b) {
  const double width = std::min(a[0] + a[2], b[0] + b[2]) - std::max(a[0], b[0]) + 1;
  if (width <= 0) return 0;
  const double height = std::min(a[1] + a[3], b[1] + b[3]) - std::max(a[1], b[1]) + 1;
  if (height <= 0) return 0;
  // Through the corners, as the original: (x + w) − x is not w in floating point.
  const auto area = [](const double* box) {
    return (box[0] + box[2] - box[0] + 1) * (box[1] + box[3] - box[1] + 1);
  };
  return width * height / (area(a) + area(b) - width * height);
}

// The face that a prediction overlaps most (the first of equals), or −1 if that is below the threshold.
std::vector<int64_t> nearestFaces(const WiderSet& set, size_t image, double iou_threshold) {
  const int64_t first_face = set.face_offsets[image];
  const int64_t end_face = set.face_offsets[image + 1];
  std::vector<int64_t> nearest;
  for (int64_t p = set.prediction_offsets[image]; p < set.prediction_offsets[image + 1]; ++p) {
    double best = -1;
    int64_t best_face = -1;
    for (int64_t f = first_face; f < end_face; ++f) {
      const double value = overlap(set.predictions.data() + p * static_cast<int64_t>(kPredictionValues),
                                   set.faces.data() + f * static_cast<int64_t>(kFaceValues));
      if (value > best) {
        best = value;
        best_face = f;
      }
    }
    nearest.push_back(best >= iou_threshold ? best_face : -1);
  }
  return nearest;
}

struct Counts {
  std::vector<double> proposals;  // per threshold
  std::vector<double> found;
};

// Adds one image: at each threshold, how many of its predictions count as proposals, and how many faces they
// have found. A threshold reaches to the last prediction in the file whose score passes it.
void countImage(const double* scores, const std::vector<int64_t>& nearest, int64_t first_face,
                const std::vector<uint8_t>& counts_face, size_t faces, Counts& counts) {
  const size_t n = nearest.size();
  std::vector<uint8_t> seen(faces, 0);
  std::vector<double> proposals(n), found(n), best_from(n);
  double proposed = 0;
  double hit = 0;
  for (size_t p = 0; p < n; ++p) {
    bool counted = true;
    if (nearest[p] >= 0) {
      if (!counts_face[static_cast<size_t>(nearest[p])]) {
        counted = false;
      } else {
        uint8_t& known = seen[static_cast<size_t>(nearest[p] - first_face)];
        if (!known) ++hit;
        known = 1;
      }
    }
    if (counted) ++proposed;
    proposals[p] = proposed;
    found[p] = hit;
  }
  for (size_t p = n; p-- > 0;) best_from[p] = p + 1 < n ? std::max(scores[p], best_from[p + 1]) : scores[p];
  size_t reached = 0;  // predictions up to the last that passes; thresholds fall, so it only grows
  const size_t thresholds = counts.proposals.size();
  for (size_t t = 0; t < thresholds; ++t) {
    const double threshold = 1 - static_cast<double>(t + 1) / static_cast<double>(thresholds);
    while (reached < n && best_from[reached] >= threshold) ++reached;
    if (reached == 0) continue;
    counts.proposals[t] += proposals[reached - 1];
    counts.found[t] += found[reached - 1];
  }
}

// Area under the precision envelope (Pascal VOC 2010 and later).
double averagePrecision(const std::vector<double>& recall, const std::vector<double>& precision) {
  double area = 0;
  double envelope = 0;
  double next_recall = 1;
  double next_precision = 0;  // of the sentinel at recall 1
  for (size_t i = recall.size(); i-- > 0;) {
    envelope = std::max(envelope, next_precision);
    area += (next_recall - recall[i]) * envelope;
    next_recall = recall[i];
    next_precision = precision[i];
  }
  return area + next_recall * std::max(envelope, next_precision);
}

}  // namespace

std::vector<WiderResult> evaluateWider(const WiderSet& set, const std::vector<std::vector<uint8_t>>& settings,
                                       const WiderOptions& options) {
  checkValues(set.predictions, kPredictionValues, set.prediction_offsets, "predictions");
  checkValues(set.faces, kFaceValues, set.face_offsets, "faces");
  if (set.prediction_offsets.size() != set.face_offsets.size()) {
    refuse("predictions and faces must be of the same images", "face_offsets");
  }
  if (options.thresholds < 1 || options.thresholds > 10'000'000) {
    refuse("there must be 1 to 10,000,000 thresholds", "thresholds");
  }
  for (const auto& setting : settings) {
    if (setting.size() * kFaceValues != set.faces.size()) {
      refuse("a setting needs one value for each face", "settings");
    }
  }
  const std::vector<double> scores = normalisedScores(set.predictions);
  const auto thresholds = static_cast<size_t>(options.thresholds);
  std::vector<Counts> counts(settings.size(),
                             {std::vector<double>(thresholds, 0), std::vector<double>(thresholds, 0)});
  for (size_t image = 0; image + 1 < set.face_offsets.size(); ++image) {
    const int64_t first_face = set.face_offsets[image];
    const auto faces = static_cast<size_t>(set.face_offsets[image + 1] - first_face);
    if (faces == 0) continue;  // the original leaves such images out
    const std::vector<int64_t> nearest = nearestFaces(set, image, options.iou_threshold);
    for (size_t s = 0; s < settings.size(); ++s) {
      countImage(scores.data() + set.prediction_offsets[image], nearest, first_face, settings[s], faces,
                 counts[s]);
    }
  }
  std::vector<WiderResult> results;
  for (size_t s = 0; s < settings.size(); ++s) {
    WiderResult result;
    result.faces = std::count_if(settings[s].begin(), settings[s].end(), [](uint8_t f) { return f != 0; });
    for (size_t t = 0; t < thresholds; ++t) {
      const double found = counts[s].found[t];
      const double proposals = counts[s].proposals[t];
      result.precision.push_back(proposals == 0 ? 0 : found / proposals);
      result.recall.push_back(result.faces == 0 ? 0 : found / static_cast<double>(result.faces));
    }
    result.average_precision = averagePrecision(result.recall, result.precision);
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace fornax
