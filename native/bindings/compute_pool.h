// One thread per environment for computations that belong to no session (metrics), so that they do not block
// JavaScript.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "bindings/environment.h"

namespace fornax::bindings {

// Jobs run one after another, in order. `job` settles the promise; an exception of it rejects the promise.
void runOnComputeThread(Napi::Env env, const std::shared_ptr<Promise>& promise, std::function<void()> job);

}  // namespace fornax::bindings
