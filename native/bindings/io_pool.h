// One thread per environment for work that waits for the disk, so that it blocks neither JavaScript nor a
// session.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "bindings/environment.h"

namespace fornax::bindings {

// `job` settles the promise; an exception of it rejects the promise.
void runOnIoThread(Napi::Env env, const std::shared_ptr<Promise>& promise, std::function<void()> job);

}  // namespace fornax::bindings
