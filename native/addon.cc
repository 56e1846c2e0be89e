#include <napi.h>

#include "bindings/environment.h"
#include "bindings/registry.h"
#include "device/compute_thread.h"

namespace {
Napi::Object init(Napi::Env env, Napi::Object exports) {
  fornax::setUpScriptThread();
  fornax::bindings::Environment::create(env);
  fornax::bindings::initAllBindings(env, exports);
  return exports;
}
}  // namespace

NODE_API_MODULE(fornax, init)
