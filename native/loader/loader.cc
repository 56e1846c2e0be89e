// The loader addon: opens libtorch's libraries by absolute path, in the order given, before the real addon is
// loaded; the real addon's dependencies are then found by soname, wherever libtorch lies. It links no
// libtorch and speaks plain Node-API (C), so that it loads on every Node and can report why something else
// does not. It keeps no state: libraries stay open for the life of the process, dlopen counts references, and
// each worker thread may load it again.
#include <dlfcn.h>
#include <node_api.h>

#include <cstdlib>
#include <string>

namespace {

napi_value throwTypeError(napi_env env, const char* message) {
  napi_throw_type_error(env, nullptr, message);
  return nullptr;
}

bool toString(napi_env env, napi_value value, std::string* out) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
  out->resize(length);
  return napi_get_value_string_utf8(env, value, out->data(), length + 1, &length) == napi_ok;
}

// open(path): null when the library is loaded, otherwise the dynamic linker's own words.
napi_value open(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument;
  if (napi_get_cb_info(env, info, &argc, &argument, nullptr, nullptr) != napi_ok || argc < 1) {
    return throwTypeError(env, "open(path): a path is expected");
  }
  std::string path;
  if (!toString(env, argument, &path)) return throwTypeError(env, "open(path): a string is expected");

  // RTLD_NOW: a library that does not fit must fail here, with a message, not at the first call.
  // RTLD_LOCAL: nothing in libtorch is meant to replace symbols of other addons.
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  napi_value result;
  if (handle != nullptr) {
    napi_get_null(env, &result);
    return result;
  }
  const char* reason = dlerror();
  if (napi_create_string_utf8(env, reason ? reason : "unknown reason", NAPI_AUTO_LENGTH, &result) !=
      napi_ok) {
    return nullptr;
  }
  return result;
}

// isLoaded(name): whether a library of that soname or path is open already (by LD_PRELOAD or another addon).
napi_value isLoaded(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument;
  std::string name;
  if (napi_get_cb_info(env, info, &argc, &argument, nullptr, nullptr) != napi_ok || argc < 1 ||
      !toString(env, argument, &name)) {
    return throwTypeError(env, "isLoaded(name): a string is expected");
  }
  void* handle = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle != nullptr) dlclose(handle);
  napi_value result;
  if (napi_get_boolean(env, handle != nullptr, &result) != napi_ok) return nullptr;
  return result;
}

// setDefault(name, value): sets an environment variable of the process unless it is set. libgomp reads its
// variables when it is loaded, and in a worker thread process.env is a copy that reaches nobody.
napi_value setDefault(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value arguments[2];
  std::string name, value;
  if (napi_get_cb_info(env, info, &argc, arguments, nullptr, nullptr) != napi_ok || argc < 2 ||
      !toString(env, arguments[0], &name) || !toString(env, arguments[1], &value)) {
    return throwTypeError(env, "setDefault(name, value): two strings are expected");
  }
  setenv(name.c_str(), value.c_str(), 0);
  return nullptr;
}

napi_value init(napi_env env, napi_value exports) {
  const napi_property_descriptor properties[] = {
      {"open", nullptr, open, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"setDefault", nullptr, setDefault, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"isLoaded", nullptr, isLoaded, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  if (napi_define_properties(env, exports, 3, properties) != napi_ok) return nullptr;
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
