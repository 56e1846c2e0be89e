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
  if (source.has("channel_order")) {
    const std::string order = source.string("channel_order");
    if (order != "rgb" && order != "bgr") {
      throw Error(ErrorKind::Argument, what + ".channel_order must be 'rgb' or 'bgr', not '" + order + "'");
    }
    normalize.reverse = order == "bgr";
  }
  if (normalize.mean.empty() || normalize.mean.size() != normalize.std.size()) {
    throw Error(ErrorKind::Argument, what + ": mean and std must have one number per channel each");
  }
  for (double std : normalize.std) {
    if (!(std > 0)) throw Error(ErrorKind::Argument, what + ".std must be positive");
  }
  return normalize;
}

}  // namespace fornax::bindings
