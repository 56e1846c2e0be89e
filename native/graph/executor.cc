#include "graph/executor.h"

#include <c10/util/Exception.h>

#include <new>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "device/out_of_memory.h"
#include "graph/size_expr.h"

namespace fornax {

namespace {

std::string shapesOf(const std::vector<c10::IValue>& stack) {
  std::ostringstream text;
  for (const auto& value : stack) {
    if (value.isTensor() && value.toTensor().defined()) {
      if (text.tellp() > 0) text << ", ";
      text << value.toTensor().toString() << value.toTensor().sizes();
    }
  }
  return text.str();
}

class Run {
 public:
  Run(const Graph& graph, const RunContext& context)
      : graph_(graph), context_(context), slots_(graph.spec().slots) {}

  std::vector<at::Tensor> runSingle(std::vector<at::Tensor> inputs) {
    fill(std::move(inputs));
    const Node& node = graph_.nodes().at(0);
    putArguments(0, node);
    call(0, node);
    if (node.returns_list) return stack_[0].toTensorVector();
    std::vector<at::Tensor> results;
    for (const auto& result : stack_) results.push_back(result.toTensor());
    return results;
  }

  std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) {
    fill(std::move(inputs));
    for (int guard : graph_.initialGuards()) checkGuard(graph_.spec().guards[guard], slots_);
    const auto& nodes = graph_.nodes();
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (context_.stop != nullptr && context_.stop->load(std::memory_order_relaxed)) {
        throw Error(ErrorKind::Aborted, "the run was stopped");
      }
      runNode(i, nodes[i]);
    }
    std::vector<at::Tensor> outputs;
    outputs.reserve(graph_.outputs().size());
    for (const auto& port : graph_.outputs()) outputs.push_back(slots_[port.slot]);
    return outputs;
  }

 private:
  void fill(std::vector<at::Tensor> inputs) {
    const auto& ports = graph_.inputs();
    if (inputs.size() != ports.size()) {
      throw Error(ErrorKind::Argument, "the model takes " + std::to_string(ports.size()) + " inputs, got " +
                                           std::to_string(inputs.size()));
    }
    for (size_t i = 0; i < ports.size(); ++i) {
      checkRank(ports[i], inputs[i]);
      slots_[ports[i].slot] = std::move(inputs[i]);
    }
    const auto& parameters = graph_.parameters();
    if (parameters.empty()) return;
    if (context_.parameters == nullptr || context_.parameters->size() != parameters.size()) {
      throw Error(ErrorKind::Argument, "the run has not as many parameters as the graph");
    }
    for (size_t i = 0; i < parameters.size(); ++i) slots_[parameters[i].slot] = (*context_.parameters)[i];
  }

  void putArguments(size_t index, const Node& node) {
    stack_ = node.stack;
    try {
      // Sizes first: a tensor argument may be moved out of its slot.
      for (const auto& argument : node.dynamic) putValue(index, argument);
      for (const auto& argument : node.dynamic) putTensors(argument);
    } catch (const c10::Error& error) {
      failed(index, error.what_without_backtrace());
    }
  }

  // Tracing relied on the number of dimensions: a slice of dimension 1 of an unbatched image is another
  // thing.
  static void checkRank(const PortSpec& port, const at::Tensor& input) {
    if (port.rank < 0 || !input.defined() || input.dim() == port.rank) return;
    std::ostringstream text;
    text << "the input '" << port.name << "' must have " << port.rank << " dimensions, got a tensor of shape "
         << input.sizes();
    throw Error(ErrorKind::Guard, text.str(), "", "a batch of one is a batch: add the missing dimension");
  }

  void runNode(size_t index, const Node& node) {
    putArguments(index, node);
    if (context_.observer) {
      observe(index, node);
    } else {
      call(index, node);
      takeResults(index, node);
    }
    for (int guard : node.guards) checkGuard(graph_.spec().guards[guard], slots_);
    for (int slot : node.release) slots_[slot].reset();
  }

  void putValue(size_t index, const DynamicArgument& argument) {
    c10::IValue& place = stack_[argument.position];
    switch (argument.kind) {
      case DynamicArgument::Kind::Expr:
        place = evaluateSize(*argument.exprs[0], slots_);
        break;
      case DynamicArgument::Kind::IntList: {
        c10::List<int64_t> values;
        values.reserve(argument.exprs.size());
        for (const auto& expr : argument.exprs) values.push_back(evaluateSize(*expr, slots_));
        place = std::move(values);
        break;
      }
      case DynamicArgument::Kind::ModeInt:
        place = static_cast<int64_t>(modeOf(index));
        break;
      case DynamicArgument::Kind::ModeBool:
        place = modeOf(index) != Mode::Eval;
        break;
      case DynamicArgument::Kind::Generator:
        if (context_.generator) place = *context_.generator;
        break;
      case DynamicArgument::Kind::Device:
        place = context_.device;
        break;
      default:
        break;
    }
  }

  void putTensors(const DynamicArgument& argument) {
    c10::IValue& place = stack_[argument.position];
    switch (argument.kind) {
      case DynamicArgument::Kind::Slot:
        place = take(argument, 0);
        break;
      case DynamicArgument::Kind::SlotList: {
        c10::List<at::Tensor> values;
        values.reserve(argument.slots.size());
        for (size_t i = 0; i < argument.slots.size(); ++i) values.push_back(take(argument, i));
        place = std::move(values);
        break;
      }
      case DynamicArgument::Kind::OptionalList: {
        c10::List<std::optional<at::Tensor>> values;
        values.reserve(argument.slots.size());
        for (size_t i = 0; i < argument.slots.size(); ++i) {
          values.push_back(argument.slots[i] < 0 ? std::optional<at::Tensor>() : take(argument, i));
        }
        place = std::move(values);
        break;
      }
      default:
        break;
    }
  }

  at::Tensor take(const DynamicArgument& argument, size_t i) {
    at::Tensor& slot = slots_[argument.slots[i]];
    return argument.last_use[i] ? std::move(slot) : slot;
  }

  Mode modeOf(size_t index) const {
    return context_.modes == nullptr ? Mode::Eval : (*context_.modes)[index];
  }

  void call(size_t index, const Node& node) {
    try {
      node.op.callBoxed(stack_);
    } catch (const c10::Error& error) {
      if (isOutOfMemory(error)) outOfMemory(index, node, error.what_without_backtrace());
      failed(index, error.what_without_backtrace());
    } catch (const std::bad_alloc& error) {
      outOfMemory(index, node, error.what());
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      failed(index, error.what());
    }
  }

  void takeResults(size_t index, const Node& node) {
    if (node.returns_list) {
      auto results = stack_[0].toTensorList();
      if (results.size() != node.outs.size()) {
        failed(index, "the operator returned " + std::to_string(results.size()) +
                          " tensors, the graph expects " + std::to_string(node.outs.size()));
      }
      for (size_t i = 0; i < node.outs.size(); ++i) {
        if (node.outs[i] >= 0) slots_[node.outs[i]] = results.get(i);
      }
      return;
    }
    for (size_t i = 0; i < node.outs.size(); ++i) {
      if (node.outs[i] >= 0) slots_[node.outs[i]] = std::move(stack_[i]).toTensor();
    }
  }

  void observe(size_t index, const Node& node) {
    std::vector<c10::IValue> arguments = stack_;
    call(index, node);
    takeResults(index, node);
    std::vector<at::Tensor> results;
    for (int slot : node.outs) results.push_back(slot < 0 ? at::Tensor() : slots_[slot]);
    context_.observer(index, arguments, results);
  }

  [[noreturn]] void outOfMemory(size_t index, const Node& node, const std::string& message) const {
    throw OutOfMemoryError(message, graph_.describe(index), "use a smaller batch size or resolution",
                           node.path);
  }

  [[noreturn]] void failed(size_t index, std::string message) const {
    // libtorch appends where in its own source the check stands; of no use to the reader.
    size_t cut = message.find("\nException raised from");
    if (cut != std::string::npos) message.resize(cut);
    std::string shapes = shapesOf(stack_);
    throw Error(ErrorKind::Execution, message,
                graph_.describe(index) + (shapes.empty() ? "" : ", with " + shapes));
  }

  const Graph& graph_;
  const RunContext& context_;
  std::vector<at::Tensor> slots_;
  std::vector<c10::IValue> stack_;
};

// '' matches everything, 'layer1' matches layer1 and layer1.0, not layer10.
bool matches(const std::string& prefix, const std::string& path) {
  if (prefix.empty()) return true;
  if (path.compare(0, prefix.size(), prefix) != 0) return false;
  return path.size() == prefix.size() || path[prefix.size()] == '.' || prefix.back() == '.';
}

}  // namespace

ModeTable resolveModes(const Graph& graph, const Modes& modes) {
  ModeTable table(graph.nodes().size(), Mode::Eval);
  for (size_t i = 0; i < table.size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (!node.modal) continue;
    switch (node.mode_kind) {
      case ModeKind::Dropout:
        table[i] = modes.dropout;
        break;
      case ModeKind::BatchNorm:
        table[i] = modes.batch_norm;
        break;
      case ModeKind::StochasticDepth:
        table[i] = modes.stochastic_depth;
        break;
    }
    size_t longest = 0;
    for (const auto& rule : modes.overrides) {
      if (rule.kind && *rule.kind != node.mode_kind) continue;
      if (rule.prefix.size() < longest || !matches(rule.prefix, node.path)) continue;
      longest = rule.prefix.size();
      table[i] = rule.mode;
    }
    // Recompute concerns batch norm alone: no dropout while its statistics are gathered.
    if (table[i] == Mode::Recompute && node.mode_kind != ModeKind::BatchNorm) table[i] = Mode::Eval;
  }
  return table;
}

std::vector<at::Tensor> runGraph(const Graph& graph, std::vector<at::Tensor> inputs,
                                 const RunContext& context) {
  return Run(graph, context).run(std::move(inputs));
}

std::vector<at::Tensor> runSingleNode(const Graph& graph, std::vector<at::Tensor> inputs,
                                      const RunContext& context) {
  return Run(graph, context).runSingle(std::move(inputs));
}

}  // namespace fornax
