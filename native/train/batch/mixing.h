// Mixup (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al. 2019, arXiv:1905.04899): a batch mixed
// with itself in reverse order, labels with the same weights, as timm's Mixup in batch mode. What a batch is
// mixed by is a function of (seed, step, position in the step, process) alone. Used on the session's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "data/batch.h"
#include "graph/graph.h"

namespace fornax {

class DeviceBatch;
class Teacher;

struct MixingOptions {
  int64_t classes = 0;
  std::string label = "label";   // field with the class of each row
  double mixup = 0, cutmix = 0;  // parameters α of Beta(α, α); 0: never
  double prob = 1;               // of mixing a batch
  double switch_prob = 0.5;      // of CutMix where both are wanted
  int64_t steps = -1;            // mixing ends after so many steps; -1: never
};

// How rows are mixed: each with its partner, the row as far from the other end of the batch. `lam` is the
// row's own share, 1 − lam its partner's.
struct Mixture {
  double lam = 1;
  bool cut = false;                                  // the partner's box, instead of a sum
  int64_t top = 0, bottom = 0, left = 0, right = 0;  // box, exclusive of bottom and right
};

// The mixture of images of height × width. A pure function of its arguments.
Mixture drawMixture(const MixingOptions& options, uint64_t seed, int64_t step, int64_t part, int64_t rank,
                    int64_t height, int64_t width);

// [N, C, H, W] with itself in reverse order. A new tensor, unless nothing is to be mixed.
at::Tensor mixImages(const at::Tensor& images, const Mixture& mixture);

// Classes int64 [N] as shares of the classes, float32 [N, classes].
at::Tensor mixLabels(const at::Tensor& labels, int64_t classes, double lam);

class Mixing {
 public:
  // Throws fornax::Error (Argument) for options out of range.
  Mixing(const MixingOptions& options, uint64_t seed, int64_t rank);

  // The batches mixed from here on are those of step `step` (0-based), from its first one.
  void beginStep(int64_t step) {
    step_ = step;
    part_ = 0;
  }

  // As apply() needs them, before they leave the CPU. Throws fornax::Error (Data).
  void checkLabels(const Batch& batch) const;

  // The batch with the model's image, normalised and mixed, and the labels in shares; `teacher`, if not null,
  // finds the same image, normalised as it wants, in kTeacherImage. After checkLabels(). Throws
  // fornax::Error (Argument) for a model with other inputs than an image.
  Batch apply(const Batch& batch, const Graph& model, const DeviceBatch& device_batch,
              const Teacher* teacher);

 private:
  MixingOptions options_;
  uint64_t seed_;
  int64_t rank_;
  int64_t step_ = 0;
  int64_t part_ = 0;
};

// Field of a batch: what a teacher sees instead of the image.
constexpr const char* kTeacherImage = "teacher/image";

}  // namespace fornax
