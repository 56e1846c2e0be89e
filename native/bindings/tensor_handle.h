// The `Tensor` class of the contract: one at::Tensor, its memory reported to V8.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <string>

namespace fornax::bindings {

// JavaScript thread only.
Napi::Value wrapTensor(Napi::Env env, at::Tensor tensor);
bool isTensor(Napi::Value value);
// ArgumentError naming `what` if it is not a Tensor; DisposedError after dispose().
at::Tensor unwrapTensor(Napi::Value value, const std::string& what);

const char* dtypeName(c10::ScalarType type);
// ArgumentError for an unknown name.
c10::ScalarType parseDtype(const std::string& name, const std::string& what);
// "cpu", "cuda:0", "meta"; DeviceError for anything else or a device that is not there.
c10::Device parseDevice(const std::string& name);
// Of these one that has memory: not meta.
c10::Device parseComputeDevice(const std::string& name);

}  // namespace fornax::bindings
