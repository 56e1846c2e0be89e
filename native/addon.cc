#include <napi.h>

#include "bindings/environment.h"
#include "bindings/registry.h"

namespace {
Napi::Object init(Napi::Env env, Napi::Object exports) {
  fornax::bindings::Environment::create(env);
  fornax::bindings::initAllBindings(env, exports);
  return exports;
}
}  // namespace

NODE_API_MODULE(fornax, init)
