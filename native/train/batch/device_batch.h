// Brings the fields of a batch to the device of a session and into the form its model takes.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <optional>
#include <string>
#include <vector>

#include "data/batch.h"
#include "graph/graph.h"
#include "train/options.h"

namespace fornax {

class DeviceBatch {
 public:
  // Images are put into channels-last memory if `channels_last`, into contiguous memory otherwise.
  DeviceBatch(c10::Device device, std::optional<Normalize> normalize, bool channels_last)
      : device_(device), normalize_(std::move(normalize)), channels_last_(channels_last) {}

  // The inputs of `graph`, in its order, on the device. An input takes the batch's field of its name; a model
  // with a single input takes `image` where no field has that name. A uint8 [N, H, W, C] field is normalised
  // to float32 [N, C, H, W] if there is a normalisation. Throws fornax::Error (Data) if a field is missing.
  std::vector<at::Tensor> modelInputs(const Graph& graph, const Batch& batch) const;

  // The inputs of a loss or a metric (`what` names it in errors): an input takes the model's output of its
  // name, else the batch's field.
  std::vector<at::Tensor> lossInputs(const Graph& loss, const Graph& model,
                                     const std::vector<at::Tensor>& outputs, const Batch& batch,
                                     const std::string& what = "loss") const;

  // The fields of the batch, on the device, that `loss` reads beside the outputs of `model`. Throws
  // fornax::Error (Data) if one is missing.
  Batch lossFields(const Graph& loss, const Graph& model, const Batch& batch) const;

  // Without waiting for the device.
  at::Tensor toDevice(const at::Tensor& tensor) const;
  c10::Device device() const { return device_; }

 private:
  at::Tensor asInput(const at::Tensor& field) const;
  at::Tensor normalized(const at::Tensor& pixels) const;

  c10::Device device_;
  std::optional<Normalize> normalize_;
  bool channels_last_;
  // On an accelerator: what pixels are multiplied by and what is added then, brought there once.
  mutable at::Tensor scale_, shift_;
};

// Rows of a batch: the first size of its first field.
int64_t batchSize(const Batch& batch);

// (x / 255 − mean) / std of uint8 [N, H, W, C] as float32 [N, C, H, W] in channels-last memory.
at::Tensor normalizePixels(const at::Tensor& pixels, const Normalize& normalize);

}  // namespace fornax
