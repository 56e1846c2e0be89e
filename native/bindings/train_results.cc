#include "bindings/train_results.h"

#include "bindings/tensor_handle.h"

namespace fornax::bindings {

namespace {

const char* reasonName(RunResult::Reason reason) {
  switch (reason) {
    case RunResult::Reason::Done:
      return "done";
    case RunResult::Reason::EpochEnd:
      return "epoch_end";
    case RunResult::Reason::Stopped:
      return "stopped";
    case RunResult::Reason::NotFinite:
      return "not_finite";
  }
  return "done";
}

}  // namespace

Napi::Object toObject(Napi::Env env, const NamedTensors& tensors) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, tensor] : tensors) object.Set(name, wrapTensor(env, tensor));
  return object;
}

Napi::Object toObject(Napi::Env env, const StepsEvent& event) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array losses = Napi::Array::New(env, event.losses.size());
  for (size_t i = 0; i < event.losses.size(); ++i) losses.Set(static_cast<uint32_t>(i), event.losses[i]);
  object.Set("step", static_cast<double>(event.step));
  object.Set("losses", losses);
  object.Set("lr", event.lr);
  object.Set("samples", static_cast<double>(event.samples));
  object.Set("seconds", event.seconds);
  object.Set("wait_seconds", event.wait_seconds);
  if (event.repeated > 0) object.Set("repeated", static_cast<double>(event.repeated));
  if (!event.declined.empty()) object.Set("declined", event.declined);
  if (event.scale) object.Set("scale", *event.scale);
  if (event.skipped) object.Set("skipped", *event.skipped);
  object.Set("memory", static_cast<double>(event.memory));
  object.Set("memory_peak", static_cast<double>(event.tensors.peak));
  object.Set("memory_reserved", static_cast<double>(event.tensors.reserved));
  return object;
}

Napi::Object toObject(Napi::Env env, const Halving& halving) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("step", static_cast<double>(halving.step + 1));
  object.Set("what", halving.what);
  object.Set("where", halving.where);
  object.Set("module", halving.module.empty() ? env.Null() : Napi::String::New(env, halving.module));
  object.Set("from", static_cast<double>(halving.from));
  object.Set("to", static_cast<double>(halving.to));
  object.Set("parts", static_cast<double>(halving.parts));
  object.Set("batch_norms", static_cast<double>(halving.batch_norms));
  return object;
}

Napi::Object toObject(Napi::Env env, const MemoryTrial& trial) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("fits", trial.fits);
  if (!trial.fits) object.Set("what", trial.what);
  if (!trial.fits) object.Set("where", trial.where);
  const auto set = [&](const char* name, int64_t bytes) { object.Set(name, static_cast<double>(bytes)); };
  set("weights", trial.weights);
  set("optimizer", trial.optimizer);
  set("average", trial.average);
  set("gradients", trial.gradients);
  set("activations", trial.activations);
  set("workspace", trial.workspace);
  set("peak", trial.peak);
  return object;
}

Napi::Object toObject(Napi::Env env, const Finding& finding) {
  static const char* const kPhases[] = {"none", "parameter", "input",   "forward",
                                        "loss", "backward",  "gradient"};
  Napi::Object object = Napi::Object::New(env);
  object.Set("phase", kPhases[static_cast<int>(finding.phase)]);
  object.Set("node", finding.node);
  object.Set("readers", finding.readers);
  object.Set("nan", static_cast<double>(finding.nan));
  object.Set("inf", static_cast<double>(finding.inf));
  object.Set("elements", static_cast<double>(finding.elements));
  object.Set("inputs", finding.inputs);
  object.Set("then_nan", finding.then_nan);
  return object;
}

Napi::Object toObject(Napi::Env env, const NonFinite& fault) {
  static const char* const kKinds[] = {"loss", "gradient", "node", "scale"};
  Napi::Object object = Napi::Object::New(env);
  object.Set("what", kKinds[static_cast<int>(fault.what)]);
  object.Set("step", static_cast<double>(fault.step));
  object.Set("value", fault.value);
  object.Set("applied", fault.applied);
  return object;
}

Napi::Object toObject(Napi::Env env, const RunResult& result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("steps", static_cast<double>(result.steps));
  object.Set("repeated", static_cast<double>(result.repeated));
  if (result.syncs) object.Set("syncs", static_cast<double>(*result.syncs));
  object.Set("samples", static_cast<double>(result.samples));
  object.Set("seconds", result.seconds);
  object.Set("reason", reasonName(result.reason));
  if (result.fault) object.Set("fault", toObject(env, *result.fault));
  if (result.finding) object.Set("finding", toObject(env, *result.finding));
  return object;
}

Napi::Object toObject(Napi::Env env, const StepResult& result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("loss", result.loss);
  object.Set("lr", result.lr);
  object.Set("grad_norm", result.grad_norm ? Napi::Number::New(env, *result.grad_norm) : env.Null());
  object.Set("outputs", toObject(env, result.outputs));
  return object;
}

}  // namespace fornax::bindings
