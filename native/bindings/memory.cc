// Memory of devices: figures, budgets, and allocations that fail on demand.
#include <napi.h>

#include "bindings/environment.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"
#include "device/allocation_faults.h"
#include "device/cpu_allocator.h"
#include "device/memory.h"

namespace fornax::bindings {

namespace {

c10::Device readDevice(Napi::Value value) {
  return parseComputeDevice(readString(value, "device"));
}

Napi::Value deviceMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const MemoryFigures memory = memoryFigures(readDevice(info[0]));
    Napi::Object object = Napi::Object::New(env);
    object.Set("allocated", static_cast<double>(memory.allocated));
    object.Set("peak", static_cast<double>(memory.peak));
    object.Set("reserved", static_cast<double>(memory.reserved));
    return object;
  });
}

void resetPeak(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { resetMemoryPeak(readDevice(info[0])); });
}

void setBudget(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const c10::Device device = readDevice(info[0]);
    installCpuAllocator();
    const bool none = info[1].IsNull() || info[1].IsUndefined();
    setMemoryBudget(device, none ? std::nullopt : std::optional(readInteger(info[1], "bytes")));
  });
}

Napi::Value failCpuAllocations(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    AllocationFaults faults;
    if (!info[0].IsNull() && !info[0].IsUndefined()) {
      const Options plan(info[0], "plan");
      faults.first = plan.integer("first");
      faults.count = plan.integer("count", 1);
      faults.min_bytes = static_cast<size_t>(plan.integer("min_bytes", 0));
    }
    return Napi::Number::New(env, static_cast<double>(planAllocationFaults(faults)));
  });
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("deviceMemory", Napi::Function::New(env, deviceMemory, "deviceMemory"));
  exports.Set("resetMemoryPeak", Napi::Function::New(env, resetPeak, "resetMemoryPeak"));
  exports.Set("setMemoryBudget", Napi::Function::New(env, setBudget, "setMemoryBudget"));
  exports.Set("failCpuAllocations", Napi::Function::New(env, failCpuAllocations, "failCpuAllocations"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
