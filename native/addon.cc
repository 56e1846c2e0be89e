#include <napi.h>

#include "bindings/registry.h"

namespace {
Napi::Object init(Napi::Env env, Napi::Object exports) {
  fornax::bindings::initAllBindings(env, exports);
  return exports;
}
}  // namespace

NODE_API_MODULE(fornax, init)
