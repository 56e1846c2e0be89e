#include "train/batch/teacher.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "graph/executor.h"
#include "graph/prune.h"
#include "train/batch/mixing.h"
#include "train/prepare_graph.h"

namespace fornax {

namespace {

constexpr std::string_view kField = "teacher";
constexpr std::string_view kPrefix = "teacher.";

// Position of an output → the fields it is read as.
std::map<size_t, std::vector<std::string>> fieldsOf(const Graph& teacher, const Graph& loss) {
  std::map<size_t, std::vector<std::string>> fields;
  for (const PortSpec& port : loss.inputs()) {
    if (port.name == kField) {
      fields[mainOutputs(teacher).at(0)].push_back(port.name);
    } else if (port.name.rfind(kPrefix, 0) == 0) {
      fields[outputsNamed(teacher, {port.name.substr(kPrefix.size())}).at(0)].push_back(port.name);
    }
  }
  if (fields.empty()) {
    throw Error(ErrorKind::Argument, "the loss reads nothing of the teacher", "teacher",
                "trace it with an input named `teacher`, or leave the teacher out");
  }
  return fields;
}

}  // namespace

Teacher::Teacher(const TeacherOptions& teacher, const Graph& loss, const TrainOptions& options)
    : device_batch_(options.device, teacher.normalize, options.channels_last) {
  Selection selection;
  for (auto& [output, names] : fieldsOf(*teacher.graph, loss)) {
    selection.outputs.push_back(output);
    fields_.push_back(std::move(names));
  }
  graph_ =
      prepareForTraining(prune(teacher.graph, selection), {options.device, options.precision, options.fuse});
  const c10::NoGradGuard no_grad;
  for (const at::Tensor& source : teacher.state->tensors()) {
    at::Tensor tensor = source.detach().to(options.device);
    if (tensor.dim() == 4) {
      tensor = tensor.contiguous(options.channels_last ? at::MemoryFormat::ChannelsLast
                                                       : at::MemoryFormat::Contiguous);
    }
    parameters_.push_back(std::move(tensor));
  }
}

Batch Teacher::withOutputs(const Batch& batch, const std::atomic<bool>* abort) const {
  const c10::NoGradGuard no_grad;
  RunContext context;
  context.parameters = &parameters_;
  context.device = device_batch_.device();
  context.stop = abort;
  const at::Tensor* own = batch.find(kTeacherImage);
  std::vector<at::Tensor> outputs =
      runGraph(*graph_, own ? std::vector{*own} : device_batch_.modelInputs(*graph_, batch), context);
  Batch result = batch;
  for (size_t i = 0; i < outputs.size(); ++i) {
    for (const std::string& field : fields_[i]) result.fields.emplace_back(field, outputs[i]);
  }
  return result;
}

}  // namespace fornax
