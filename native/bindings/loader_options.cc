#include "bindings/loader_options.h"

#include <utility>

#include "bindings/options.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"
#include "data/loader.h"
#include "data/tensor_loader.h"

namespace fornax::bindings {

namespace {

[[noreturn]] void invalid(const std::string& what) {
  throw Error(ErrorKind::Argument, what, "loader options");
}

PackField readField(const Options& options) {
  PackField field;
  field.path = options.string("path");
  field.dtype = options.string("dtype");
  field.shape = readIntegers(options.require("shape"), options.name("shape"));
  field.offset = options.integer("offset");
  return field;
}

std::vector<PackShard> readShards(const Options& options) {
  std::vector<PackShard> shards;
  Napi::Array array = readArray(options.require("shards"), options.name("shards"));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Options shard(array.Get(i), options.name("shards") + "[" + std::to_string(i) + "]");
    shards.push_back({readField(shard.object("pixels")), readField(shard.object("offsets")),
                      readField(shard.object("sizes")), readField(shard.object("labels"))});
  }
  return shards;
}

std::array<double, 2> readRange(const Options& options, const char* key) {
  const std::vector<double> values = options.numbers(key);
  if (values.size() != 2) invalid(options.name(key) + " must be two numbers [low, high]");
  return {values[0], values[1]};
}

AugmentOptions readAugment(const Options& options) {
  AugmentOptions augment;
  const auto size = readIntegers(options.require("size"), options.name("size"));
  if (size.size() != 2) invalid(options.name("size") + " must be [height, width]");
  augment.height = size[0];
  augment.width = size[1];
  augment.hflip = options.number("hflip", 0);
  const Options crop = options.object("crop");
  switch (crop.choice("kind", {"resize_crop", "random_resized_crop", "random_crop", "none"}, "")) {
    case 0:
      augment.crop = CropKind::ResizeCrop;
      augment.resize = crop.integer("resize");
      break;
    case 1:
      augment.crop = CropKind::RandomResizedCrop;
      augment.scale = readRange(crop, "scale");
      augment.ratio = readRange(crop, "ratio");
      break;
    case 2:
      augment.crop = CropKind::RandomCrop;
      augment.padding = crop.integer("padding");
      break;
    default:
      augment.crop = CropKind::None;
  }
  return augment;
}

std::vector<int32_t> readIndices(Napi::Value value, const std::string& what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    invalid(what + " must be an Int32Array");
  }
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

int readCount(const Options& options, const char* key, int64_t most) {
  if (!options.has(key)) return 0;
  const int64_t value = options.integer(key);
  if (value < 1 || value > most) {
    invalid(options.name(key) + " must be an integer from 1 to " + std::to_string(most) + ", got " +
            std::to_string(value));
  }
  return static_cast<int>(value);
}

// What loaders of both kinds are told.
EpochOptions readEpochs(const Options& options) {
  EpochOptions result;
  if (options.has("indices")) result.indices = readIndices(options.get("indices"), options.name("indices"));
  result.batch_size = options.integer("batch_size");
  result.shuffle = options.boolean("shuffle", false);
  result.drop_last = options.boolean("drop_last", false);
  const int64_t seed = options.integer("seed");
  if (seed < 0) invalid("options.seed must not be negative");
  result.seed = static_cast<uint64_t>(seed);
  if (!options.has("shard")) return result;
  const Options shard = options.object("shard");
  result.rank = shard.integer("rank");
  result.world = shard.integer("world");
  return result;
}

LoaderOptions readPackOptions(const Options& options) {
  LoaderOptions result;
  result.shards = readShards(options);
  const int64_t channels = options.integer("channels");
  if (channels != 1 && channels != 3)
    invalid("options.channels must be 1 or 3, got " + std::to_string(channels));
  result.channels = static_cast<int>(channels);
  result.epochs = readEpochs(options);
  result.augment = readAugment(options.object("augment"));
  result.threads = readCount(options, "threads", 256);
  result.prefetch = readCount(options, "prefetch", 1024);
  if (options.has("normalize")) {
    const Options normalize = options.object("normalize");
    result.normalize = {normalize.numbers("mean"), normalize.numbers("std")};
  }
  result.pin = options.boolean("pin", false);
  return result;
}

TensorLoaderOptions readTensorOptions(const Options& options) {
  TensorLoaderOptions result;
  const std::string what = options.name("fields");
  const Napi::Object fields = readObject(options.require("fields"), what);
  const Napi::Array names = fields.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    std::string name = names.Get(i).As<Napi::String>();
    result.fields.emplace_back(name, unwrapTensor(fields.Get(name), what + "." + name));
  }
  result.epochs = readEpochs(options);
  return result;
}

}  // namespace

std::unique_ptr<EpochSource> makeLoader(Napi::Value value) {
  const Options options(value, "options");
  if (options.has("fields")) return std::make_unique<TensorLoader>(readTensorOptions(options));
  return std::make_unique<Loader>(readPackOptions(options));
}

}  // namespace fornax::bindings
