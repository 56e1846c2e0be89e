#include "train/snapshot.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "core/error.h"

namespace fornax {

namespace {

constexpr const char* kGenerator = "generator";
constexpr const char* kScheduleState = "schedule/state";
constexpr const char* kMicroBatch = "memory/micro_batch";
constexpr const char* kSkippedInARow = "scaler/skipped_in_a_row";

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

int64_t rowsIn(const at::Tensor& entry) {
  if (entry.numel() != 1 || entry.scalar_type() != at::kLong) refuse(kMicroBatch, "is no number of rows");
  const int64_t rows = entry.item<int64_t>();
  if (rows < 1) refuse(kMicroBatch, "must be at least 1");
  return rows;
}

void restoreStep(TrainStep& step, const NamedTensors& entries) {
  const c10::NoGradGuard no_grad;
  const NamedTensors targets = step.resumeState();
  std::unordered_map<std::string, at::Tensor> by_name(entries.begin(), entries.end());
  // Snapshots of older versions are without it.
  if (step.scaler()) by_name.try_emplace(kSkippedInARow, at::zeros({}, at::kFloat));
  checkEntries(targets, by_name);
  // The generator first: it is the one that can still refuse.
  try {
    step.generator().set_state(by_name.at(kGenerator).to(at::kCPU).contiguous());
  } catch (const c10::Error& error) {
    refuse(kGenerator, std::string("does not fit: ") + error.what_without_backtrace());
  }
  for (const auto& [name, target] : targets) target.copy_(by_name.at(name));
}

}  // namespace

NamedTensors copyToCpu(const NamedTensors& tensors, bool share) {
  const c10::NoGradGuard no_grad;
  NamedTensors copies;
  copies.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor there = tensor.detach().to(at::kCPU);
    copies.emplace_back(name, share ? there.contiguous() : there.clone(at::MemoryFormat::Contiguous));
  }
  return copies;
}

NamedTensors takeSnapshot(const SnapshotParts& parts, bool share) {
  NamedTensors snapshot = copyToCpu(parts.step.resumeState(), share);
  snapshot.emplace_back(kGenerator, parts.step.generator().get_state().clone());
  const std::vector<double> state = parts.schedule.state();
  if (!state.empty()) snapshot.emplace_back(kScheduleState, at::tensor(state, at::kDouble));
  // Only where a step ran out of memory: what is computed depends on it.
  const int64_t rows = parts.micro_batches.rows();
  if (rows != parts.micro_batch) snapshot.emplace_back(kMicroBatch, at::scalar_tensor(rows, at::kLong));
  return snapshot;
}

void restoreSnapshot(const SnapshotParts& parts, const NamedTensors& entries) {
  NamedTensors of_step;
  at::Tensor of_schedule;
  int64_t micro_batch = parts.micro_batch;
  for (const auto& entry : entries) {
    if (entry.first == kScheduleState)
      of_schedule = entry.second.to(at::kCPU).contiguous();
    else if (entry.first == kMicroBatch)
      micro_batch = rowsIn(entry.second);
    else
      of_step.push_back(entry);
  }
  const auto wanted = static_cast<int64_t>(parts.schedule.state().size());
  const int64_t given = of_schedule.defined() ? of_schedule.numel() : 0;
  if (wanted != given || (given > 0 && of_schedule.scalar_type() != at::kDouble)) {
    throw Error(ErrorKind::Weights, std::string("`") + kScheduleState + "` does not fit the schedule",
                "snapshot", "restore a snapshot of a session with the same schedule");
  }
  parts.micro_batches.checkRows(micro_batch);
  restoreStep(parts.step, of_step);
  parts.micro_batches.setRows(micro_batch);
  if (given == 0) return;
  const double* values = of_schedule.const_data_ptr<double>();
  parts.schedule.restore({values, values + given});
}

}  // namespace fornax
