// Errors of the native core. Each says what happened, where and what to do, and names the TypeScript class
// (src/errors.ts) it becomes when it crosses into JavaScript. Thrown on any thread; plain C++, no N-API.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace fornax {

enum class ErrorKind {
  Fornax,
  Data,
  Device,
  Weights,
  Graph,
  Guard,
  Execution,
  Train,
  Disposed,
  Argument,
  Aborted
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string what, std::string where = "", std::string fix = "")
      : std::runtime_error(what), kind(kind), where(std::move(where)), fix(std::move(fix)) {}

  ErrorKind kind;
  std::string where;
  std::string fix;
};

}  // namespace fornax
