#include "train/optim/optimizer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <type_traits>

#include "core/error.h"
#include "train/optim/foreach_optimizers.h"
#include "train/optim/fused_optimizers.h"
#include "train/optim/layerwise_optimizers.h"

namespace fornax {

namespace {

void requireGroup(bool condition, const char* option, const char* expected) {
  if (condition) return;
  throw Error(ErrorKind::Argument, std::string("parameter group: ") + option + " must be " + expected,
              std::string("groups.") + option);
}

bool sameLayout(const at::Tensor& a, const at::Tensor& b) {
  for (int64_t dim = 0; dim < a.dim(); ++dim) {
    if (a.size(dim) != 1 && a.stride(dim) != b.stride(dim)) return false;
  }
  return true;
}

// The fused operators walk parameter, gradient and state as flat memory: a gradient of another layout would
// be applied to the wrong elements. Autograd normally delivers the parameter's layout.
at::Tensor inLayoutOf(const at::Tensor& parameter, const at::Tensor& gradient) {
  if (sameLayout(parameter, gradient)) return gradient;
  return at::empty_like(parameter).copy_(gradient);
}

// A rate as the device sees it where it reads it from memory, so that recorded and other steps compute the
// same.
double onDevice(double rate, c10::Device device) {
  return device.is_cuda() ? static_cast<float>(rate) : rate;
}

at::Tensor makeSlot(const at::Tensor& parameter, bool scalar, double initial) {
  if (scalar) return at::full({}, initial, parameter.options().dtype(at::kFloat).requires_grad(false));
  return at::full_like(parameter, initial, parameter.options().requires_grad(false),
                       at::MemoryFormat::Preserve);
}

}  // namespace

Optimizer::Optimizer(std::vector<OptimizerGroup> groups, std::vector<Slot> slots) : slots_(std::move(slots)) {
  for (OptimizerGroup& group : groups) {
    requireGroup(std::isfinite(group.weight_decay) && group.weight_decay >= 0, "weight_decay", "at least 0");
    requireGroup(std::isfinite(group.lr_scale) && group.lr_scale >= 0, "lr_scale", "at least 0");
    std::map<std::pair<c10::Device, c10::ScalarType>, std::vector<Entry>,
             bool (*)(const std::pair<c10::Device, c10::ScalarType>&,
                      const std::pair<c10::Device, c10::ScalarType>&)>
        buckets([](const auto& a, const auto& b) {
          return std::tuple(a.first.type(), a.first.index(), a.second) <
                 std::tuple(b.first.type(), b.first.index(), b.second);
        });
    for (auto& [name, parameter] : group.parameters) {
      Entry entry{name, parameter, {}};
      for (const Slot& slot : slots_) entry.slots.push_back(makeSlot(parameter, slot.scalar, slot.initial));
      buckets[{parameter.device(), parameter.scalar_type()}].push_back(std::move(entry));
    }
    for (auto& [key, entries] : buckets) {
      members_.push_back({group.weight_decay, group.lr_scale, std::move(entries)});
    }
  }
}

void Optimizer::keepNumbersOnDevice(c10::Device device, bool momentum) {
  const auto number = at::TensorOptions().dtype(at::kDouble).device(device);
  rate_ = at::zeros({}, number);
  if (momentum) momentum_ = at::zeros({}, number);
}

// As an argument of a kernel: nothing is copied from the host.
void Optimizer::setRateOnDevice(double lr) {
  rate_.fill_(lr);
}

bool Optimizer::setMomentum(double momentum) {
  if (!takeMomentum(momentum)) return false;
  if (momentum_.defined()) momentum_.fill_(momentum);
  return true;
}

// CUDA's kernels read it as float32.
at::Tensor Optimizer::rateOnDevice(double scale) const {
  const at::Tensor rate = scale == 1 ? rate_ : rate_ * scale;
  return rate.is_cpu() ? rate : rate.to(at::kFloat);
}

void Optimizer::step(double lr, const at::Tensor* found_inf) {
  std::vector<Bucket> buckets;
  std::vector<at::Tensor> gradients;
  std::map<double, at::Tensor> rates;  // by scale: layer-wise decay has few of them
  for (const Members& members : members_) {
    Bucket bucket{onDevice(lr * members.lr_scale, members.entries.front().parameter.device()),
                  members.weight_decay,
                  {},
                  {},
                  {},
                  {}};
    if (rate_.defined()) {
      at::Tensor& rate = rates[members.lr_scale];
      if (!rate.defined()) rate = rateOnDevice(members.lr_scale);
      bucket.rate = rate;
    }
    bucket.slots.resize(slots_.size());
    for (const Entry& entry : members.entries) {
      const at::Tensor& gradient = entry.parameter.grad();
      if (!gradient.defined()) continue;
      bucket.parameters.push_back(entry.parameter);
      bucket.gradients.push_back(inLayoutOf(entry.parameter, gradient));
      for (size_t slot = 0; slot < slots_.size(); ++slot) bucket.slots[slot].push_back(entry.slots[slot]);
    }
    if (bucket.parameters.empty()) continue;
    gradients.insert(gradients.end(), bucket.gradients.begin(), bucket.gradients.end());
    buckets.push_back(std::move(bucket));
  }
  if (buckets.empty()) return;
  prepare(gradients);
  for (const Bucket& bucket : buckets) update(bucket, found_inf);
}

NamedTensors Optimizer::state() const {
  NamedTensors state;
  for (const Members& members : members_) {
    for (const Entry& entry : members.entries) {
      for (size_t slot = 0; slot < slots_.size(); ++slot) {
        state.emplace_back(slots_[slot].name + "/" + entry.name, entry.slots[slot]);
      }
    }
  }
  return state;
}

namespace {

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace

std::unique_ptr<Optimizer> makeOptimizer(const OptimizerOptions& options,
                                         std::vector<OptimizerGroup> groups) {
  const auto make = [&groups]<typename T>(std::type_identity<T>, const auto& each) {
    return std::unique_ptr<Optimizer>(std::make_unique<T>(each, std::move(groups)));
  };
  return std::visit(Overloaded{
                        [&](const SgdOptions& each) { return make(std::type_identity<Sgd>{}, each); },
                        [&](const AdamOptions& each) { return make(std::type_identity<Adam>{}, each); },
                        [&](const RmsPropOptions& each) { return make(std::type_identity<RmsProp>{}, each); },
                        [&](const AdagradOptions& each) { return make(std::type_identity<Adagrad>{}, each); },
                        [&](const RAdamOptions& each) { return make(std::type_identity<RAdam>{}, each); },
                        [&](const NAdamOptions& each) { return make(std::type_identity<NAdam>{}, each); },
                        [&](const LionOptions& each) { return make(std::type_identity<Lion>{}, each); },
                        [&](const LambOptions& each) { return make(std::type_identity<Lamb>{}, each); },
                        [&](const LarsOptions& each) { return make(std::type_identity<Lars>{}, each); },
                    },
                    options);
}

}  // namespace fornax
