// A stand-in for a CUDA graph on the CPU, for tests of everything around it. It sees each operator below
// autograd and autocast, as a device would, keeps it with its arguments and results, and calls it again on
// replay, writing to the very same results. So it freezes what a CUDA graph freezes (numbers of the host,
// addresses, the way the program went) and refuses what it refuses (values that the host reads). What happens
// outside of libtorch's dispatcher it does not see.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "device/out_of_memory.h"
#include "train/recording/step_recording.h"

namespace fornax {

namespace {

struct Call {
  c10::OperatorHandle op;
  std::vector<c10::IValue> arguments;
  std::vector<c10::IValue> results;
};

template <typename Function>
void forEachTensor(const c10::IValue& value, const Function& function) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) function(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) {
      if (tensor.defined()) function(tensor);
    }
  } else if (value.isList()) {
    for (const c10::IValue& each : value.toListRef()) forEachTensor(each, function);
  }
}

// Of a list the elements are what is written.
bool writes(const c10::AliasInfo* alias) {
  if (!alias) return false;
  return alias->isWrite() || std::any_of(alias->containedTypes().begin(), alias->containedTypes().end(),
                                         [](const c10::AliasInfo& each) { return writes(&each); });
}

// Its schema does not say that it writes the running statistics.
bool writesSilently(const c10::OperatorHandle& op) {
  return op.operator_name().name == "aten::native_batch_norm";
}

// What a tensor from outside of the tape held.
struct Kept {
  c10::Storage storage;
  std::vector<char> bytes;
};

class Tape {
 public:
  // Of operators that call others only the one that a device would see is kept: not what is composed of other
  // operators, nor what autocast is about to call with other arguments, nor what a kept one calls.
  bool begin(const at::RecordFunction& function) {
    if (depth_ > 0) return false;
    const auto name = function.operator_name();
    if (!name) return false;
    const auto op = c10::Dispatcher::singleton().findSchema(*name);
    if (!op || isComposed(*op) || isAutocast(*op)) return false;
    if (op->hasTag(at::Tag::data_dependent_output) || isShapedByData(*op)) {
      if (refused_.empty()) refused_ = op->operator_name().name;
    }
    const auto inputs = function.inputs();
    calls_.push_back({*op, std::vector<c10::IValue>(inputs.begin(), inputs.end()), {}});
    keepWritten(calls_.back());
    depth_ = 1;
    return true;
  }

  void end(const at::RecordFunction& function) {
    depth_ = 0;
    Call& call = calls_.back();
    call.results = function.outputs();
    std::unordered_set<c10::StorageImpl*> given;  // views of a weight are not ours
    for (const c10::IValue& argument : call.arguments) {
      forEachTensor(argument, [&](const at::Tensor& tensor) { given.insert(storageOf(tensor)); });
    }
    for (const c10::IValue& result : call.results) {
      forEachTensor(result, [&](const at::Tensor& tensor) {
        if (!given.count(storageOf(tensor))) ours_.insert(storageOf(tensor));
      });
    }
  }

  const std::string& refused() const { return refused_; }

  // The values that tensors from outside had before.
  void undo() {
    for (auto& [key, kept] : before_) {
      std::memcpy(kept.storage.mutable_data(), kept.bytes.data(), kept.bytes.size());
    }
    before_.clear();
    ours_.clear();
  }

  void replay() const {
    const c10::NoGradGuard no_grad;
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    for (const Call& call : calls_) replay(call);
  }

 private:
  static c10::StorageImpl* storageOf(const at::Tensor& tensor) {
    return tensor.storage().unsafeGetStorageImpl();
  }

  static bool isComposed(const c10::OperatorHandle& op) {
    return op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd) &&
           !op.hasKernelForDispatchKey(c10::DispatchKey::CPU);
  }

  static bool isAutocast(const c10::OperatorHandle& op) {
    return at::autocast::is_autocast_enabled(at::kCPU) &&
           op.hasKernelForDispatchKey(c10::DispatchKey::AutocastCPU);
  }

  static bool isShapedByData(const c10::OperatorHandle& op) {
    static const std::unordered_set<std::string> kept = {"aten::index"};  // by integers as a rule
    return op.hasTag(at::Tag::dynamic_output_shape) && !kept.count(op.operator_name().name);
  }

  void keepWritten(const Call& call) {
    const auto& arguments = call.op.schema().arguments();
    for (size_t i = 0; i < call.arguments.size() && i < arguments.size(); ++i) {
      if (!writes(arguments[i].alias_info()) && !writesSilently(call.op)) continue;
      forEachTensor(call.arguments[i], [&](const at::Tensor& tensor) {
        c10::StorageImpl* storage = storageOf(tensor);
        if (ours_.count(storage) || before_.count(storage)) return;
        const auto* data = static_cast<const char*>(storage->data());
        before_.emplace(storage, Kept{tensor.storage(), {data, data + storage->nbytes()}});
      });
    }
  }

  // Results that are views or arguments need nothing: they show what was written there.
  static void replay(const Call& call) {
    const auto& returns = call.op.schema().returns();
    bool fresh = false, written = false;
    for (const auto& each : returns) {
      fresh |= !each.alias_info();
      written |= writes(each.alias_info());
    }
    for (const auto& each : call.op.schema().arguments()) written |= writes(each.alias_info());
    if (!fresh && !written) return;
    torch::jit::Stack stack(call.arguments.begin(), call.arguments.end());
    call.op.callBoxed(stack);
    for (size_t i = 0; i < stack.size() && i < returns.size(); ++i) {
      if (!returns[i].alias_info()) rewrite(call.results[i], stack[i]);
    }
  }

  static void rewrite(const c10::IValue& kept, const c10::IValue& now) {
    std::vector<at::Tensor> to, from;
    forEachTensor(kept, [&](const at::Tensor& tensor) { to.push_back(tensor); });
    forEachTensor(now, [&](const at::Tensor& tensor) { from.push_back(tensor); });
    for (size_t i = 0; i < to.size(); ++i) to[i].copy_(from[i]);
  }

  std::vector<Call> calls_;
  int depth_ = 0;
  std::string refused_;
  std::unordered_map<c10::StorageImpl*, Kept> before_;
  std::unordered_set<c10::StorageImpl*> ours_;  // made by operators of the tape, which keeps them
};

thread_local Tape* recording = nullptr;

struct IsKept : at::ObserverContext {};

std::unique_ptr<at::ObserverContext> onBegin(const at::RecordFunction& function) {
  if (recording && recording->begin(function)) return std::make_unique<IsKept>();
  return nullptr;
}

void onEnd(const at::RecordFunction& function, at::ObserverContext* context) {
  if (recording && context) recording->end(function);
}

class Observation {
 public:
  explicit Observation(Tape& tape)
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(onBegin, onEnd)
                                               .needsInputs(true)
                                               .needsOutputs(true)
                                               .scopes({at::RecordScope::FUNCTION}))) {
    recording = &tape;
  }
  ~Observation() {
    recording = nullptr;
    at::removeCallback(handle_);
  }
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;

 private:
  at::CallbackHandle handle_;
};

class TapeRecording : public StepRecording {
 public:
  explicit TapeRecording(at::Generator generator) : generator_(std::move(generator)) {}

  void record(const std::function<void()>& work) override {
    const at::Tensor state = generator_.get_state().clone();
    const auto undo = [&] {
      tape_.undo();
      generator_.set_state(state);
    };
    try {
      const Observation observation(tape_);
      work();
    } catch (...) {
      undo();
      throw;
    }
    undo();
    if (!tape_.refused().empty()) {
      throw Error(ErrorKind::Execution, "the host reads a value of the device (" + tape_.refused() + ")",
                  "recording a step");
    }
  }

  // A device has the memory of a recording before it starts. Here it can run out in the middle, and nothing
  // is to be tried again then.
  void replay() override {
    try {
      tape_.replay();
    } catch (const c10::Error& error) {
      if (!isOutOfMemory(error)) throw;
      throw Error(ErrorKind::Device,
                  std::string("a repeated step is half done: ") + error.what_without_backtrace(), "tape");
    }
  }

 private:
  at::Generator generator_;
  Tape tape_;
};

}  // namespace

std::unique_ptr<StepRecording> makeTapeRecording(const at::Generator& generator) {
  return std::make_unique<TapeRecording>(generator);
}

}  // namespace fornax
