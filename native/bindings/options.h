// Reads option objects handed over from JavaScript. Every failure is an ArgumentError that names the option.
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fornax::bindings {

class Options {
 public:
  // `what` is how errors call the object: "options". undefined and null read as an empty object.
  Options(Napi::Value value, std::string what);

  bool has(const char* key) const;         // present and neither undefined nor null
  Napi::Value get(const char* key) const;  // undefined if absent
  Napi::Value require(const char* key) const;
  Options object(const char* key) const;  // empty if absent
  std::string name(const char* key) const { return what_ + "." + key; }

  std::string string(const char* key) const;
  std::string string(const char* key, const std::string& fallback) const;
  bool boolean(const char* key, bool fallback) const;
  double number(const char* key) const;
  double number(const char* key, double fallback) const;
  int64_t integer(const char* key) const;
  int64_t integer(const char* key, int64_t fallback) const;
  // From `least` to `most`, but for the fallback.
  int integer(const char* key, int fallback, int least, int most) const;
  std::vector<double> numbers(const char* key) const;  // empty if absent
  std::vector<std::string> strings(const char* key) const;
  // Index of the value among `choices`; error lists them.
  size_t choice(const char* key, const std::vector<std::string>& choices, const std::string& fallback) const;

 private:
  Napi::Env env_;
  Napi::Object object_;
  bool empty_;
  std::string what_;
};

// Free-standing readers, for values that are not options; `what` names the value in the error.
std::string readString(Napi::Value value, const std::string& what);
double readNumber(Napi::Value value, const std::string& what);
int64_t readInteger(Napi::Value value, const std::string& what);
bool readBoolean(Napi::Value value, const std::string& what);
std::vector<int64_t> readIntegers(Napi::Value value, const std::string& what);
Napi::Array readArray(Napi::Value value, const std::string& what);
Napi::Object readObject(Napi::Value value, const std::string& what);

}  // namespace fornax::bindings
