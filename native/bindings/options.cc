#include "bindings/options.h"

#include <cmath>

#include "core/error.h"

namespace fornax::bindings {

namespace {

std::string typeOf(Napi::Value value) {
  if (value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsArray()) return "an array";
  if (value.IsTypedArray()) return "a typed array";
  if (value.IsString()) return "a string";
  if (value.IsNumber()) return "a number";
  if (value.IsBoolean()) return "a boolean";
  if (value.IsFunction()) return "a function";
  if (value.IsBigInt()) return "a bigint";
  return "an object";
}

[[noreturn]] void fail(const std::string& what, const std::string& expected, Napi::Value value) {
  throw Error(ErrorKind::Argument, what + " must be " + expected + ", got " + typeOf(value));
}

}  // namespace

std::string readString(Napi::Value value, const std::string& what) {
  if (!value.IsString()) fail(what, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

double readNumber(Napi::Value value, const std::string& what) {
  if (!value.IsNumber()) fail(what, "a number", value);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t readInteger(Napi::Value value, const std::string& what) {
  double number = readNumber(value, what);
  if (!(std::floor(number) == number) || std::abs(number) > 9007199254740991.0) {
    throw Error(ErrorKind::Argument, what + " must be an integer, got " + std::to_string(number));
  }
  return static_cast<int64_t>(number);
}

bool readBoolean(Napi::Value value, const std::string& what) {
  if (!value.IsBoolean()) fail(what, "a boolean", value);
  return value.As<Napi::Boolean>().Value();
}

Napi::Array readArray(Napi::Value value, const std::string& what) {
  if (!value.IsArray()) fail(what, "an array", value);
  return value.As<Napi::Array>();
}

Napi::Object readObject(Napi::Value value, const std::string& what) {
  if (!value.IsObject() || value.IsArray() || value.IsTypedArray()) fail(what, "an object", value);
  return value.As<Napi::Object>();
}

std::vector<int64_t> readIntegers(Napi::Value value, const std::string& what) {
  Napi::Array array = readArray(value, what);
  std::vector<int64_t> result;
  result.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    result.push_back(readInteger(array.Get(i), what + "[" + std::to_string(i) + "]"));
  }
  return result;
}

Options::Options(Napi::Value value, std::string what)
    : env_(value.Env()), empty_(value.IsUndefined() || value.IsNull()), what_(std::move(what)) {
  if (!empty_) object_ = readObject(value, what_);
}

Napi::Value Options::get(const char* key) const {
  return empty_ ? env_.Undefined() : object_.Get(key);
}

bool Options::has(const char* key) const {
  Napi::Value value = get(key);
  return !value.IsUndefined() && !value.IsNull();
}

Napi::Value Options::require(const char* key) const {
  if (!has(key)) throw Error(ErrorKind::Argument, name(key) + " is required");
  return get(key);
}

Options Options::object(const char* key) const {
  return Options(get(key), name(key));
}

std::string Options::string(const char* key) const {
  return readString(require(key), name(key));
}
std::string Options::string(const char* key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}
bool Options::boolean(const char* key, bool fallback) const {
  return has(key) ? readBoolean(get(key), name(key)) : fallback;
}
double Options::number(const char* key) const {
  return readNumber(require(key), name(key));
}
double Options::number(const char* key, double fallback) const {
  return has(key) ? number(key) : fallback;
}
int64_t Options::integer(const char* key) const {
  return readInteger(require(key), name(key));
}
int64_t Options::integer(const char* key, int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

int Options::integer(const char* key, int fallback, int least, int most) const {
  if (!has(key)) return fallback;
  const int64_t value = integer(key);
  if (value >= least && value <= most) return static_cast<int>(value);
  throw Error(ErrorKind::Argument, name(key) + " must be an integer from " + std::to_string(least) + " to " +
                                       std::to_string(most) + ", got " + std::to_string(value));
}

std::vector<double> Options::numbers(const char* key) const {
  std::vector<double> result;
  if (!has(key)) return result;
  Napi::Array array = readArray(get(key), name(key));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    result.push_back(readNumber(array.Get(i), name(key) + "[" + std::to_string(i) + "]"));
  }
  return result;
}

std::vector<std::string> Options::strings(const char* key) const {
  std::vector<std::string> result;
  if (!has(key)) return result;
  Napi::Array array = readArray(get(key), name(key));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    result.push_back(readString(array.Get(i), name(key) + "[" + std::to_string(i) + "]"));
  }
  return result;
}

size_t Options::choice(const char* key, const std::vector<std::string>& choices,
                       const std::string& fallback) const {
  std::string value = string(key, fallback);
  std::string list;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == value) return i;
    list += (i ? ", " : "") + choices[i];
  }
  throw Error(ErrorKind::Argument, name(key) + " must be one of " + list + ", got '" + value + "'");
}

}  // namespace fornax::bindings
