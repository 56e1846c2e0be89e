#include "train/batch/device_batch.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>

#include "core/error.h"

namespace fornax {

namespace {

std::string fieldNames(const Batch& batch) {
  std::string names;
  for (const auto& field : batch.fields) names += (names.empty() ? "" : ", ") + field.first;
  return names.empty() ? "none" : names;
}

std::string outputNames(const Graph& model) {
  std::string names;
  for (const PortSpec& port : model.outputs()) names += (names.empty() ? "" : ", ") + port.name;
  return names;
}

const at::Tensor& inputField(const Graph& graph, const std::string& name, const Batch& batch) {
  if (const at::Tensor* field = batch.find(name)) return *field;
  const at::Tensor* image = graph.inputs().size() == 1 ? batch.find("image") : nullptr;
  if (image) return *image;
  throw Error(ErrorKind::Data,
              "the model's input `" + name + "` is in none of the batch's fields (" + fieldNames(batch) + ")",
              "batch", "name the model's inputs like the fields of the data");
}

[[noreturn]] void refuseMissing(const std::string& name, const Graph& model, const Batch& batch,
                                const std::string& what) {
  throw Error(ErrorKind::Data,
              "the input `" + name + "` is neither an output of the model (" + outputNames(model) +
                  ") nor a field of the batch (" + fieldNames(batch) + ")",
              what, "trace it with inputs named like the outputs and the fields");
}

bool hasOutput(const Graph& model, const std::string& name) {
  return std::any_of(model.outputs().begin(), model.outputs().end(),
                     [&](const PortSpec& port) { return port.name == name; });
}

const at::Tensor* outputNamed(const Graph& model, const std::vector<at::Tensor>& outputs,
                              const std::string& name) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (model.outputs()[i].name == name) return &outputs[i];
  }
  return nullptr;
}

}  // namespace

int64_t batchSize(const Batch& batch) {
  if (batch.fields.empty() || batch.fields.front().second.dim() == 0) {
    throw Error(ErrorKind::Data, "a batch needs at least one field with a batch dimension", "batch");
  }
  return batch.fields.front().second.size(0);
}

at::Tensor normalizePixels(const at::Tensor& pixels, const Normalize& normalize) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fornax::normalize", "")
          .typed<at::Tensor(const at::Tensor&, at::ArrayRef<double>, at::ArrayRef<double>, bool)>();
  return op.call(pixels, normalize.mean, normalize.std, normalize.reverse);
}

// From pageable memory a copy would wait for the device: pinned memory lets it run beside the previous step.
// The host allocator keeps the pinned block until the copy has been made.
at::Tensor DeviceBatch::toDevice(const at::Tensor& tensor) const {
  if (tensor.device() == device_) return tensor;
  if (device_.is_cuda() && tensor.device().is_cpu()) {
    return (tensor.is_pinned() ? tensor : tensor.pin_memory())
        .to(device_, tensor.scalar_type(), /*non_blocking=*/true);
  }
  return tensor.to(device_);
}

// As fornax::normalize, which would copy its numbers to the device each time.
at::Tensor DeviceBatch::normalized(const at::Tensor& pixels) const {
  const auto channels = static_cast<int64_t>(normalize_->mean.size());
  if (pixels.is_cpu() || pixels.size(3) != channels) return normalizePixels(pixels, *normalize_);
  if (!scale_.defined()) {
    std::vector<float> scale, shift;
    for (int64_t c = 0; c < channels; ++c) {
      scale.push_back(static_cast<float>(1.0 / (255.0 * normalize_->std[c])));
      shift.push_back(static_cast<float>(-normalize_->mean[c] / normalize_->std[c]));
    }
    scale_ = at::tensor(scale).to(device_);
    shift_ = at::tensor(shift).to(device_);
  }
  const at::Tensor ordered = normalize_->reverse ? pixels.flip({3}) : pixels;
  return at::addcmul(shift_, ordered.to(at::kFloat), scale_).permute({0, 3, 1, 2});
}

at::Tensor DeviceBatch::asInput(const at::Tensor& field) const {
  at::Tensor input = toDevice(field);
  if (normalize_ && input.dim() == 4 && input.scalar_type() == at::kByte) input = normalized(input);
  if (input.dim() != 4 || !input.is_floating_point()) return input;
  return input.contiguous(channels_last_ ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

std::vector<at::Tensor> DeviceBatch::modelInputs(const Graph& graph, const Batch& batch) const {
  std::vector<at::Tensor> inputs;
  inputs.reserve(graph.inputs().size());
  for (const PortSpec& port : graph.inputs()) inputs.push_back(asInput(inputField(graph, port.name, batch)));
  return inputs;
}

Batch DeviceBatch::lossFields(const Graph& loss, const Graph& model, const Batch& batch) const {
  Batch result;
  result.global_rows = batch.global_rows;
  for (const PortSpec& port : loss.inputs()) {
    if (hasOutput(model, port.name)) continue;
    const at::Tensor* field = batch.find(port.name);
    if (!field) refuseMissing(port.name, model, batch, "loss");
    result.fields.emplace_back(port.name, toDevice(*field));
  }
  return result;
}

std::vector<at::Tensor> DeviceBatch::lossInputs(const Graph& loss, const Graph& model,
                                                const std::vector<at::Tensor>& outputs, const Batch& batch,
                                                const std::string& what) const {
  std::vector<at::Tensor> inputs;
  inputs.reserve(loss.inputs().size());
  for (const PortSpec& port : loss.inputs()) {
    if (const at::Tensor* output = outputNamed(model, outputs, port.name)) {
      inputs.push_back(*output);
    } else if (const at::Tensor* field = batch.find(port.name)) {
      inputs.push_back(toDevice(*field));
    } else {
      refuseMissing(port.name, model, batch, what);
    }
  }
  return inputs;
}

}  // namespace fornax
