// What a training session gives back, as objects of the contract.
#pragma once

#include <napi.h>

#include "train/session.h"

namespace fornax::bindings {

Napi::Object toObject(Napi::Env env, const NamedTensors& tensors);
Napi::Object toObject(Napi::Env env, const StepsEvent& event);
Napi::Object toObject(Napi::Env env, const Halving& halving);
Napi::Object toObject(Napi::Env env, const MemoryTrial& trial);
Napi::Object toObject(Napi::Env env, const Finding& finding);
Napi::Object toObject(Napi::Env env, const NonFinite& fault);
Napi::Object toObject(Napi::Env env, const RunResult& result);
Napi::Object toObject(Napi::Env env, const StepResult& result);

}  // namespace fornax::bindings
