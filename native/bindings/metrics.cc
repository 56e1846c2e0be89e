// The `ClassificationMetrics` and `SegmentationMetrics` classes of the contract: accumulators that count on
// the environment's compute thread.
#include "bindings/metrics.h"

#include <c10/core/GradMode.h>

#include <memory>
#include <string>
#include <utility>

#include "bindings/compute_pool.h"
#include "bindings/environment.h"
#include "bindings/options.h"
#include "bindings/registry.h"
#include "bindings/tensor_handle.h"
#include "core/error.h"
#include "metrics/segmentation.h"

namespace fornax::bindings {

namespace {

template <typename T, typename Convert>
Napi::Array toArray(Napi::Env env, const std::vector<T>& values, Convert convert) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) array.Set(static_cast<uint32_t>(i), convert(env, values[i]));
  return array;
}

Napi::Value toNumber(Napi::Env env, double value) {
  return Napi::Number::New(env, value);
}

Napi::Value toCount(Napi::Env env, int64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Object averagesObject(Napi::Env env, const Averages& averages) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("precision", averages.precision);
  object.Set("recall", averages.recall);
  object.Set("f1", averages.f1);
  return object;
}

Napi::Object overlapObject(Napi::Env env, const std::vector<int64_t>& confusion, int64_t classes) {
  const OverlapScores scores = scoreOverlap(confusion, classes);
  Napi::Object object = Napi::Object::New(env);
  object.Set("pixels", static_cast<double>(scores.pixels));
  object.Set("pixel_accuracy", scores.pixel_accuracy);
  object.Set("miou", scores.miou);
  object.Set("mean_dice", scores.mean_dice);
  object.Set("iou_per_class", toArray(env, scores.iou, optionalNumber));
  object.Set("dice_per_class", toArray(env, scores.dice, optionalNumber));
  object.Set("classes", static_cast<double>(classes));
  object.Set("confusion", toArray(env, confusion, toCount));
  return object;
}

// What is common to the accumulators: `Traits` says how one is made, fed and read.
template <typename Traits>
class MetricsHandle : public Napi::ObjectWrap<MetricsHandle<Traits>> {
  using Self = MetricsHandle<Traits>;
  using Metrics = typename Traits::Metrics;

 public:
  static void init(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor =
        Self::DefineClass(env, Traits::kName,
                          {
                              Self::template InstanceAccessor<&Self::isDisposed>("disposed"),
                              Self::template InstanceMethod<&Self::dispose>("dispose"),
                              Self::template InstanceMethod<&Self::add>("add"),
                              Self::template InstanceMethod<&Self::result>("result"),
                          });
    exports.Set(Traits::kName, constructor);
    Environment::of(env).constructors[Traits::kName] = Napi::Persistent(constructor);
  }

  explicit MetricsHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    guarded(info.Env(), [&] {
      Options source(info[0], "options");
      device_ = parseComputeDevice(source.string("device", "cpu"));
      auto options = Traits::readOptions(source);
      classes_ = options.classes;
      metrics_ = std::make_shared<Metrics>(options, device_);
    });
  }

 private:
  const std::shared_ptr<Metrics>& metrics() const {
    if (!metrics_) throw Error(ErrorKind::Disposed, std::string("the ") + Traits::kName + " were disposed");
    return metrics_;
  }

  Napi::Value isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !metrics_); }
  void dispose(const Napi::CallbackInfo&) { metrics_.reset(); }

  Napi::Value add(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      at::Tensor output = unwrapTensor(info[0], Traits::kOutput);
      at::Tensor target = unwrapTensor(info[1], Traits::kTarget);
      std::shared_ptr<Metrics> counter = metrics();
      auto promise = Promise::create(env);
      runOnComputeThread(env, promise,
                         [promise, metrics = std::move(counter), device = device_, output = std::move(output),
                          target = std::move(target)] {
                           c10::NoGradGuard no_grad;
                           Traits::add(*metrics, output, target, device);
                           promise->resolve([](Napi::Env env) -> Napi::Value { return env.Undefined(); });
                         });
      return promise->value();
    });
  }

  Napi::Value result(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      std::shared_ptr<Metrics> counter = metrics();
      auto promise = Promise::create(env);
      runOnComputeThread(env, promise, [promise, metrics = std::move(counter), classes = classes_] {
        c10::NoGradGuard no_grad;
        auto values = std::make_shared<typename Traits::Result>(Traits::read(*metrics));
        promise->resolve([values, classes](Napi::Env env) -> Napi::Value {
          return Traits::toObject(env, *values, classes);
        });
      });
      return promise->value();
    });
  }

  std::shared_ptr<Metrics> metrics_;
  c10::Device device_ = c10::kCPU;
  int64_t classes_ = 0;
};

struct ClassificationTraits {
  using Metrics = ClassificationMetrics;
  using Result = ClassificationResult;
  static constexpr const char* kName = "ClassificationMetrics";
  static constexpr const char* kOutput = "logits";
  static constexpr const char* kTarget = "label";

  static ClassificationOptions readOptions(const Options& source) {
    ClassificationOptions options;
    options.classes = source.integer("classes");
    options.auroc = source.boolean("auroc", true);
    options.auroc_bytes = source.integer("auroc_bytes", options.auroc_bytes);
    options.bins = source.integer("bins", options.bins);
    return options;
  }
  static void add(Metrics& metrics, const at::Tensor& logits, const at::Tensor& label, c10::Device device) {
    metrics.add(logits.to(device), checkLabels(label, metrics.classes()).to(device));
  }
  static Result read(const Metrics& metrics) { return metrics.read(); }
  static Napi::Value toObject(Napi::Env env, const Result& result, int64_t) {
    return metricsObject(env, result);
  }
};

struct SegmentationTraits {
  using Metrics = SegmentationMetrics;
  using Result = std::vector<int64_t>;
  static constexpr const char* kName = "SegmentationMetrics";
  static constexpr const char* kOutput = "output";
  static constexpr const char* kTarget = "mask";

  static SegmentationOptions readOptions(const Options& source) {
    SegmentationOptions options;
    options.classes = source.integer("classes");
    if (source.has("ignore_index")) options.ignore_index = source.integer("ignore_index");
    return options;
  }
  static void add(Metrics& metrics, const at::Tensor& output, const at::Tensor& mask, c10::Device device) {
    metrics.add(output.to(device), mask);
  }
  static Result read(const Metrics& metrics) { return metrics.confusion(); }
  static Napi::Value toObject(Napi::Env env, const Result& confusion, int64_t classes) {
    return overlapObject(env, confusion, classes);
  }
};

void init(Napi::Env env, Napi::Object exports) {
  MetricsHandle<ClassificationTraits>::init(env, exports);
  MetricsHandle<SegmentationTraits>::init(env, exports);
}

}  // namespace

Napi::Value optionalNumber(Napi::Env env, std::optional<double> value) {
  return value ? Napi::Number::New(env, *value) : env.Null();
}

Napi::Object metricsObject(Napi::Env env, const ClassificationResult& result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("samples", static_cast<double>(result.samples));
  object.Set("top1", result.top1);
  object.Set("top5", result.top5);
  object.Set("cross_entropy", optionalNumber(env, result.cross_entropy));
  object.Set("ece", result.ece);
  object.Set("auroc", optionalNumber(env, result.auroc));
  object.Set("auroc_per_class", toArray(env, result.auroc_per_class, optionalNumber));
  object.Set("macro", averagesObject(env, result.scores.macro));
  object.Set("weighted", averagesObject(env, result.scores.weighted));
  Napi::Object per_class = Napi::Object::New(env);
  per_class.Set("support", toArray(env, result.scores.support, toCount));
  per_class.Set("precision", toArray(env, result.scores.precision, toNumber));
  per_class.Set("recall", toArray(env, result.scores.recall, toNumber));
  per_class.Set("f1", toArray(env, result.scores.f1, toNumber));
  object.Set("per_class", per_class);
  object.Set("classes", static_cast<double>(result.scores.support.size()));
  object.Set("confusion", toArray(env, result.confusion, toCount));
  return object;
}

FORNAX_BINDING(init);

}  // namespace fornax::bindings
