#include "bindings/tensor_ranges.h"

#include <cstdint>
#include <utility>

#include "bindings/options.h"
#include "bindings/tensor_handle.h"

namespace fornax::bindings {

std::vector<TensorRange> readRanges(Napi::Value value, const std::string& what) {
  Napi::Array given = readArray(value, what);
  std::vector<TensorRange> ranges;
  ranges.reserve(given.Length());
  for (uint32_t i = 0; i < given.Length(); ++i) {
    Napi::HandleScope scope(value.Env());
    Options range(given.Get(i), what + "[" + std::to_string(i) + "]");
    TensorRange read{range.string("name"), parseDtype(range.string("dtype"), range.name("dtype")),
                     readIntegers(range.require("shape"), range.name("shape")), range.integer("offset"),
                     range.integer("length")};
    if (range.has("strides")) read.strides = readIntegers(range.get("strides"), range.name("strides"));
    read.big_endian = range.boolean("big_endian", false);
    ranges.push_back(std::move(read));
  }
  return ranges;
}

}  // namespace fornax::bindings
