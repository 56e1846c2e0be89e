// Detection as operators: anchors, target matching and decoding. None has a gradient. All compute on the CPU:
// their work is branches over a few thousand boxes, and tensors of another device are copied, which waits for
// it.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "detect/decode.h"
#include "detect/match.h"
#include "detect/priors.h"

namespace fornax {

namespace {

at::Tensor onCpu(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.detach().to(at::kCPU, dtype).contiguous();
}

void checkVariances(at::ArrayRef<double> variances) {
  TORCH_CHECK(variances.size() == 2 && variances[0] > 0 && variances[1] > 0,
              "two positive variances are needed: of centres and of sizes");
}

// On the device of `like`.
at::Tensor priorBoxes(const at::Tensor& like, int64_t height, int64_t width, at::ArrayRef<double> min_sizes,
                      at::ArrayRef<int64_t> steps) {
  const ImageSize size{height, width};
  if (like.is_meta()) {
    return at::empty({countPriors(size, min_sizes, steps), 4}, like.options().dtype(at::kFloat));
  }
  return makePriors(size, min_sizes, steps).to(like.device());
}

// Rows [offsets[i], offsets[i + 1]) of the values belong to image i.
std::vector<int64_t> readOffsets(const at::Tensor& offsets, int64_t rows) {
  const at::Tensor values = onCpu(offsets, at::kLong);
  const int64_t* data = values.const_data_ptr<int64_t>();
  std::vector<int64_t> result(data, data + values.size(0));
  TORCH_CHECK(result.front() == 0 && result.back() == rows && std::is_sorted(result.begin(), result.end()),
              "offsets of faces must rise from 0 to the number of faces, ", rows);
  return result;
}

void checkBoxes(const at::Tensor& boxes) {
  const float* box = boxes.const_data_ptr<float>();
  for (int64_t f = 0; f < boxes.size(0); ++f, box += 4) {
    // Also false for what is not a number.
    TORCH_CHECK(box[2] >= box[0] && box[3] >= box[1] && box[2] - box[0] < 1e6f && box[3] - box[1] < 1e6f,
                "the box of face ", f, " of the batch is none: [", box[0], ", ", box[1], ", ", box[2], ", ",
                box[3], "]; it must be x1, y1, x2, y2");
  }
}

using Targets = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// `loc` [N, P, 4] are the detector's offsets, whose targets are wanted: they tell the shape and the device.
Targets matchPriorsOp(const at::Tensor& loc_output, const at::Tensor& priors, const at::Tensor& boxes,
                      const at::Tensor& landmarks, const at::Tensor& labels, const at::Tensor& offsets,
                      double threshold, at::ArrayRef<double> variances) {
  checkVariances(variances);
  TORCH_CHECK(priors.dim() == 2 && priors.size(1) == 4, "anchors are [P, 4], got ", priors.sym_sizes());
  TORCH_CHECK(loc_output.dim() == 3 && loc_output.size(1) == priors.size(0), "the detector predicts ",
              loc_output.sym_sizes(), ", but there are ", priors.size(0),
              " anchors: the images have another size than the loss was made for");
  TORCH_CHECK(offsets.dim() == 1 && offsets.size(0) == loc_output.size(0) + 1, "a batch of ",
              loc_output.size(0), " images needs one offset of faces more, got ", offsets.sym_sizes());
  const int64_t faces = boxes.size(0), count = priors.size(0), images = loc_output.size(0);
  TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4 && landmarks.dim() == 2 && landmarks.size(0) == faces &&
                  landmarks.size(1) == 10 && labels.dim() == 1 && labels.size(0) == faces,
              "faces are boxes [F, 4], landmarks [F, 10] and labels [F], got ", boxes.sym_sizes(), ", ",
              landmarks.sym_sizes(), " and ", labels.sym_sizes());
  const at::Device target = loc_output.device();
  const auto floats = at::TensorOptions(at::kFloat).device(target.is_meta() ? target : at::Device(at::kCPU));
  at::Tensor loc = at::empty({images, count, 4}, floats), landm = at::empty({images, count, 10}, floats);
  at::Tensor conf = at::empty({images, count}, floats.dtype(at::kLong));
  if (target.is_meta()) return {loc, conf, landm};

  const std::vector<int64_t> ranges = readOffsets(offsets, faces);
  const at::Tensor prior = onCpu(priors, at::kFloat), box = onCpu(boxes, at::kFloat),
                   point = onCpu(landmarks, at::kFloat), label = onCpu(labels, at::kLong);
  checkBoxes(box);
  for (int64_t i = 0; i < images; ++i) {
    const int64_t first = ranges[i];
    const FaceTargets image{box.const_data_ptr<float>() + first * 4,
                            point.const_data_ptr<float>() + first * 10,
                            label.const_data_ptr<int64_t>() + first, ranges[i + 1] - first};
    matchPriors(prior.const_data_ptr<float>(), count, image, static_cast<float>(threshold), variances,
                {loc[i].mutable_data_ptr<float>(), conf[i].mutable_data_ptr<int64_t>(),
                 landm[i].mutable_data_ptr<float>()});
  }
  return {loc.to(target), conf.to(target), landm.to(target)};
}

Targets decodeFacesOp(const at::Tensor& image, const at::Tensor& loc, const at::Tensor& conf,
                      const at::Tensor& landm, at::ArrayRef<double> min_sizes, at::ArrayRef<int64_t> steps,
                      at::ArrayRef<double> variances, double confidence, double nms, int64_t top_k,
                      int64_t keep_top_k) {
  checkVariances(variances);
  TORCH_CHECK(top_k >= 1 && keep_top_k >= 1, "top_k and keep_top_k must be at least 1");
  const ImageSize size = imageSize(image);
  const int64_t images = image.size(0), count = countPriors(size, min_sizes, steps);
  TORCH_CHECK(loc.sizes() == at::IntArrayRef({images, count, 4}) &&
                  conf.sizes() == at::IntArrayRef({images, count, 2}) &&
                  landm.sizes() == at::IntArrayRef({images, count, 10}),
              "an image of ", size.height, "×", size.width, " has ", count,
              " anchors, which the outputs of the detector do not fit: ", loc.sizes(), ", ", conf.sizes(),
              ", ", landm.sizes());
  TORCH_CHECK(!loc.is_meta(), "how many faces are found depends on the values of the outputs");
  DetectOptions options;
  options.confidence = static_cast<float>(confidence);
  options.nms = static_cast<float>(nms);
  options.top_k = top_k;
  options.keep_top_k = keep_top_k;
  options.center_variance = static_cast<float>(variances[0]);
  options.size_variance = static_cast<float>(variances[1]);
  const at::Tensor priors = makePriors(size, min_sizes, steps);
  const at::Tensor boxes = onCpu(loc, at::kFloat), points = onCpu(landm, at::kFloat);
  const at::Tensor scores = at::softmax(onCpu(conf, at::kFloat), -1).select(-1, 1).contiguous();

  std::vector<float> values;
  std::vector<int64_t> offsets{0}, found;
  for (int64_t i = 0; i < images; ++i) {
    const Detections faces = decodeFaces(priors, boxes[i], scores[i], points[i], size, options);
    values.insert(values.end(), faces.values.begin(), faces.values.end());
    offsets.push_back(static_cast<int64_t>(values.size()) / kFaceValues);
    found.push_back(faces.candidates);
  }
  return {at::tensor(values, at::kFloat).reshape({-1, kFaceValues}), at::tensor(offsets, at::kLong),
          at::tensor(found, at::kLong)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fornax, library) {
  library.def("prior_boxes(Tensor like, int height, int width, float[] min_sizes, int[] steps) -> Tensor",
              priorBoxes);
  library.def(
      "match_priors(Tensor loc_output, Tensor priors, Tensor boxes, Tensor landmarks, Tensor labels, Tensor "
      "offsets, "
      "float threshold, float[] variances) -> (Tensor loc, Tensor conf, Tensor landm)",
      matchPriorsOp);
  library.def(
      "decode_faces(Tensor image, Tensor loc, Tensor conf, Tensor landm, float[] min_sizes, int[] steps, "
      "float[] variances, float confidence=0.02, float nms=0.4, int top_k=5000, int keep_top_k=750) -> "
      "(Tensor detections, Tensor offsets, Tensor candidates)",
      decodeFacesOp);
}

}  // namespace fornax
