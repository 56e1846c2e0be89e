#include "train/snapshot.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <string>
#include <unordered_map>

#include "core/error.h"

namespace fornax {

namespace {

constexpr const char* kGenerator = "generator";

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw Error(
      ErrorKind::Weights, "`" + name + "` " + what, "snapshot",
      "restore a snapshot of a session with the same model, parameter groups, optimizer and precision");
}

// Shape and dtype of a generator's state are its own affair: it checks them.
void checkEntries(const NamedTensors& targets, const std::unordered_map<std::string, at::Tensor>& entries) {
  for (const auto& [name, target] : targets) {
    const auto entry = entries.find(name);
    if (entry == entries.end()) refuse(name, "is missing");
    if (entry->second.sizes() != target.sizes()) refuse(name, "has another shape");
    if (entry->second.scalar_type() != target.scalar_type()) refuse(name, "has another dtype");
  }
  if (!entries.count(kGenerator)) refuse(kGenerator, "is missing");
  if (entries.size() == targets.size() + 1) return;
  std::unordered_map<std::string, at::Tensor> unknown = entries;
  for (const auto& target : targets) unknown.erase(target.first);
  unknown.erase(kGenerator);
  refuse(unknown.begin()->first, "is unknown");
}

}  // namespace

NamedTensors copyToCpu(const NamedTensors& tensors) {
  const c10::NoGradGuard no_grad;
  NamedTensors copies;
  copies.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    copies.emplace_back(name, tensor.detach().to(at::kCPU).clone(at::MemoryFormat::Contiguous));
  }
  return copies;
}

NamedTensors takeSnapshot(TrainStep& step) {
  NamedTensors snapshot = copyToCpu(step.resumeState());
  snapshot.emplace_back(kGenerator, step.generator().get_state().clone());
  return snapshot;
}

void restoreSnapshot(TrainStep& step, const NamedTensors& entries) {
  const c10::NoGradGuard no_grad;
  const NamedTensors targets = step.resumeState();
  const std::unordered_map<std::string, at::Tensor> by_name(entries.begin(), entries.end());
  checkEntries(targets, by_name);
  // The generator first: it is the one that can still refuse.
  try {
    step.generator().set_state(by_name.at(kGenerator).to(at::kCPU).contiguous());
  } catch (const c10::Error& error) {
    refuse(kGenerator, std::string("does not fit: ") + error.what_without_backtrace());
  }
  for (const auto& [name, target] : targets) target.copy_(by_name.at(name));
}

}  // namespace fornax
