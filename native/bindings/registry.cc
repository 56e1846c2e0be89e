#include "bindings/registry.h"

#include <vector>

namespace fornax::bindings {

namespace {
std::vector<InitFunction>& initFunctions() {
  static std::vector<InitFunction> functions;
  return functions;
}
}  // namespace

void registerBinding(InitFunction init) {
  initFunctions().push_back(init);
}

void initAllBindings(Napi::Env env, Napi::Object exports) {
  for (InitFunction init : initFunctions()) init(env, exports);
}

}  // namespace fornax::bindings
