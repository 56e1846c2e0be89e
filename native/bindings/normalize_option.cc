#include "bindings/normalize_option.h"

#include "bindings/options.h"
#include "core/error.h"

namespace fornax::bindings {

std::optional<Normalize> readNormalize(Napi::Value value, const std::string& what) {
  if (value.IsUndefined() || value.IsNull()) return std::nullopt;
  Options source(value, what);
  source.require("mean");
  source.require("std");
  Normalize normalize{source.numbers("mean"), source.numbers("std")};
  if (normalize.mean.empty() || normalize.mean.size() != normalize.std.size()) {
    throw Error(ErrorKind::Argument, what + ": mean and std must have one number per channel each");
  }
  for (double std : normalize.std) {
    if (!(std > 0)) throw Error(ErrorKind::Argument, what + ".std must be positive");
  }
  return normalize;
}

}  // namespace fornax::bindings
