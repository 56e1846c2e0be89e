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

// Pairs what is given with the state: `chosen[i]` is the index of the entry for the i-th tensor, or -1.
LoadReport match(const State& state, const std::vector<std::pair<std::string, at::IntArrayRef>>& entries,
                 bool strict, std::vector<int>& chosen) {
  LoadReport report;
  chosen.assign(state.size(), -1);
  std::vector<bool> mismatched(state.size(), false);
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto& [name, shape] = entries[i];
    int index = state.find(name);
    if (index < 0) {
      report.unexpected.push_back(name);
      continue;
    }
    const auto& expected = state.specs()[index].shape;
    if (shape != at::IntArrayRef(expected)) {
      std::ostringstream text;
      text << name << ": model " << at::IntArrayRef(expected) << ", given " << shape;
      report.mismatched.push_back(text.str());
      mismatched[index] = true;
      continue;
    }
    chosen[index] = static_cast<int>(i);
  }
  for (size_t i = 0; i < state.size(); ++i) {
    if (chosen[i] < 0 && !mismatched[i]) report.missing.push_back(state.specs()[i].name);
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
  return report;
}

}  // namespace

LoadReport loadState(State& state, const std::vector<std::pair<std::string, at::Tensor>>& entries,
                     bool strict) {
  std::vector<std::pair<std::string, at::IntArrayRef>> given;
  for (const auto& [name, tensor] : entries) given.emplace_back(name, tensor.sizes());
  std::vector<int> chosen;
  LoadReport report = match(state, given, strict, chosen);
  c10::NoGradGuard no_grad;
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i] >= 0) state.at(i).detach().copy_(entries[chosen[i]].second);
  }
  return report;
}

LoadReport loadStateFromFile(State& state, const std::string& path, const std::vector<TensorRange>& ranges,
                             bool strict) {
  std::vector<std::pair<std::string, at::IntArrayRef>> given;
  for (const auto& range : ranges) given.emplace_back(range.name, range.shape);
  std::vector<int> chosen;
  LoadReport report = match(state, given, strict, chosen);
  std::vector<TensorRange> wanted;
  std::vector<at::Tensor> targets;
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i] < 0) continue;
    wanted.push_back(ranges[chosen[i]]);
    targets.push_back(state.at(i));
  }
  readTensorsInto(path, wanted, targets);
  return report;
}

}  // namespace fornax
