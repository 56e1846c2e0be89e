#include "graph/load_state.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <sstream>
#include <unordered_map>

#include "core/error.h"

namespace fornax {

namespace {

void append(std::string& text, const std::string& title, const std::vector<std::string>& names) {
  if (names.empty()) return;
  text += "\n  " + title + " (" + std::to_string(names.size()) + "):";
  constexpr size_t kShown = 12;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += "\n    " + names[i];
  if (names.size() > kShown) text += "\n    … and " + std::to_string(names.size() - kShown) + " more";
}

}  // namespace

LoadReport loadState(State& state, const std::vector<std::pair<std::string, at::Tensor>>& entries,
                     bool strict) {
  LoadReport report;
  std::vector<const at::Tensor*> values(state.size(), nullptr);
  for (const auto& [name, tensor] : entries) {
    int index = state.find(name);
    if (index < 0) {
      report.unexpected.push_back(name);
      continue;
    }
    const auto& shape = state.specs()[index].shape;
    if (tensor.sizes() != at::IntArrayRef(shape)) {
      std::ostringstream text;
      text << name << ": model " << at::IntArrayRef(shape) << ", given " << tensor.sizes();
      report.mismatched.push_back(text.str());
      continue;
    }
    values[index] = &tensor;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& name = state.specs()[i].name;
    if (values[i] != nullptr) continue;
    bool mismatched = false;
    for (const auto& text : report.mismatched) mismatched = mismatched || text.rfind(name + ":", 0) == 0;
    if (!mismatched) report.missing.push_back(name);
  }
  bool fits = report.missing.empty() && report.unexpected.empty() && report.mismatched.empty();
  if (strict && !fits) {
    std::string text = "the weights do not fit the model";
    append(text, "missing", report.missing);
    append(text, "unexpected", report.unexpected);
    append(text, "of another shape", report.mismatched);
    throw Error(ErrorKind::Weights, text, "",
                "load weights of the same architecture, or pass strict: false to load what fits");
  }
  c10::NoGradGuard no_grad;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] != nullptr) state.at(i).detach().copy_(*values[i]);
  }
  return report;
}

}  // namespace fornax
