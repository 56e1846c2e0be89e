// Each binding file registers its own init function, so that addon.cc knows none of them by name.
#pragma once

#include <napi.h>

namespace fornax::bindings {

using InitFunction = void (*)(Napi::Env env, Napi::Object exports);

void registerBinding(InitFunction init);
void initAllBindings(Napi::Env env, Napi::Object exports);

struct Registrar {
  explicit Registrar(InitFunction init) { registerBinding(init); }
};

}  // namespace fornax::bindings

// At namespace scope of a binding file: FORNAX_BINDING(initTensor)
#define FORNAX_BINDING(init) static ::fornax::bindings::Registrar fornax_registrar_##init(init)
