#include "export/torchscript.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <exception>
#include <map>
#include <memory>
#include <ostream>
#include <streambuf>
#include <utility>

#include "core/error.h"
#include "io/file.h"

namespace fornax {

namespace {

// libtorch's archive writer finishes the archive in its destructor: a write that threw there would end the
// process. So failed writes are remembered, and reported once the writer is gone.
class FileBuffer : public std::streambuf {
 public:
  explicit FileBuffer(const std::string& path) : file_(path, O_WRONLY | O_CREAT | O_TRUNC) {}

  void finish() {
    if (error_) std::rethrow_exception(error_);
    file_.finish();
  }

 protected:
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    put(data, static_cast<size_t>(size));
    return size;
  }

  int_type overflow(int_type value) override {
    if (traits_type::eq_int_type(value, traits_type::eof())) return traits_type::not_eof(value);
    char byte = traits_type::to_char_type(value);
    put(&byte, 1);
    return value;
  }

 private:
  void put(const char* data, size_t size) noexcept {
    if (error_) return;
    try {
      file_.write(data, size);
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  File file_;
  std::exception_ptr error_;
};

// A module with its submodules, made as paths ask for them; joined once all of them are complete, because a
// class takes the type of an attribute when it is added.
class Tree {
 public:
  Tree(std::shared_ptr<torch::jit::CompilationUnit> unit, const std::string& class_name)
      : unit_(std::move(unit)), class_name_(class_name), module_(c10::QualifiedName(class_name), unit_) {
    module_.register_attribute("training", c10::BoolType::get(), false);
  }

  void add(const ScriptTensor& entry) {
    Tree* tree = this;
    size_t begin = 0;
    for (size_t dot = entry.name.find('.'); dot != std::string::npos; dot = entry.name.find('.', begin)) {
      tree = &tree->child(entry.name.substr(begin, dot - begin));
      begin = dot + 1;
    }
    std::string name = entry.name.substr(begin);
    using Kind = ScriptTensor::Kind;
    at::Tensor tensor = entry.tensor.detach().to(at::kCPU).contiguous();
    if (entry.kind == Kind::Parameter) tensor = tensor.detach().requires_grad_(true);
    tree->module_.register_attribute(name, c10::TensorType::get(), tensor, entry.kind == Kind::Parameter,
                                     entry.kind == Kind::Buffer);
  }

  const torch::jit::Module& join() {
    for (auto& [name, child] : children_) module_.register_module(name, child->join());
    return module_;
  }

 private:
  Tree& child(const std::string& name) {
    for (auto& [known, tree] : children_) {
      if (known == name) return *tree;
    }
    // Not made of the name: that of a class has to be an identifier.
    std::string class_name = class_name_ + "_" + std::to_string(children_.size());
    children_.emplace_back(name, std::make_unique<Tree>(unit_, class_name));
    return *children_.back().second;
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  std::string class_name_;
  torch::jit::Module module_;
  std::vector<std::pair<std::string, std::unique_ptr<Tree>>> children_;
};

// libtorch appends where in its own source an error was raised, and sometimes a whole backtrace.
std::string brief(const std::exception& error) {
  const auto* own = dynamic_cast<const c10::Error*>(&error);
  std::string text = own != nullptr ? own->what_without_backtrace() : error.what();
  size_t cut = text.find("\nException raised from");
  if (cut != std::string::npos) text.resize(cut);
  return text;
}

torch::jit::Module compile(const std::string& source, const std::vector<ScriptTensor>& tensors) {
  auto unit = std::make_shared<torch::jit::CompilationUnit>();
  Tree tree(unit, "__torch__.FornaxModel");
  for (const auto& tensor : tensors) tree.add(tensor);
  torch::jit::Module module = tree.join();
  module.define(source);
  return module;
}

void addOutputs(const c10::IValue& value, ScriptRun& run) {
  if (value.isTensor()) {
    run.outputs.emplace_back("", value.toTensor());
  } else if (value.isTuple()) {
    size_t i = 0;
    for (const auto& element : value.toTupleRef().elements()) {
      run.outputs.emplace_back(std::to_string(i++), element.toTensor());
    }
  } else {
    for (const auto& entry : value.toGenericDict()) {
      run.outputs.emplace_back(entry.key().toStringRef(), entry.value().toTensor());
    }
  }
}

}  // namespace

void writeTorchScript(const std::string& path, const std::string& source,
                      const std::vector<ScriptTensor>& tensors,
                      const std::vector<std::pair<std::string, std::string>>& extra) {
  FileBuffer buffer(path);
  try {
    torch::jit::Module module = compile(source, tensors);
    torch::jit::ExtraFilesMap files;
    for (const auto& [name, text] : extra) files.emplace(name, text);
    std::ostream stream(&buffer);
    module.save(stream, files);
  } catch (const std::exception& error) {
    throw Error(ErrorKind::Weights, "TorchScript did not take the model: " + brief(error), path);
  }
  buffer.finish();
}

ScriptRun runTorchScript(const std::string& path, const std::vector<at::Tensor>& inputs) {
  c10::NoGradGuard no_grad;
  ScriptRun run;
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, c10::kCPU);
  } catch (const std::exception& error) {
    throw Error(ErrorKind::Weights, "the archive cannot be loaded: " + brief(error), path);
  }
  try {
    using Kind = ScriptTensor::Kind;
    for (const auto& [name, tensor] : module.named_parameters()) {
      run.state.push_back({name, Kind::Parameter, tensor});
    }
    for (const auto& [name, tensor] : module.named_buffers())
      run.state.push_back({name, Kind::Buffer, tensor});
    addOutputs(module.forward({inputs.begin(), inputs.end()}), run);
  } catch (const std::exception& error) {
    throw Error(ErrorKind::Execution, "the TorchScript module failed: " + brief(error), path);
  }
  return run;
}

}  // namespace fornax
