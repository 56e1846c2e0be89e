// setErrorClasses: JavaScript hands over the classes that native errors become.
#include "bindings/environment.h"
#include "bindings/options.h"
#include "bindings/registry.h"

namespace fornax::bindings {
namespace {

void setErrorClasses(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object classes = readObject(info[0], "classes");
  auto& known = Environment::of(env).error_classes;
  Napi::Array names = classes.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    std::string name = names.Get(i).As<Napi::String>();
    Napi::Value value = classes.Get(name);
    if (value.IsFunction()) known[name] = Napi::Persistent(value.As<Napi::Function>());
  }
}

void init(Napi::Env env, Napi::Object exports) {
  exports.Set("setErrorClasses", Napi::Function::New(env, setErrorClasses, "setErrorClasses"));
}

}  // namespace

FORNAX_BINDING(init);

}  // namespace fornax::bindings
