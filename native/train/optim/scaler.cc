#include "train/optim/scaler.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <utility>

#include "core/error.h"

namespace fornax {

namespace {
void require(bool condition, const char* option, const char* expected) {
  if (condition) return;
  throw Error(ErrorKind::Argument, std::string("scaler: ") + option + " must be " + expected,
              std::string("scaler.") + option);
}
}  // namespace

GradScaler::GradScaler(const ScalerOptions& options, c10::Device device) : options_(options) {
  require(std::isfinite(options.init_scale) && options.init_scale > 0, "init_scale", "greater than 0");
  require(std::isfinite(options.growth_factor) && options.growth_factor > 1, "growth_factor",
          "greater than 1");
  require(options.backoff_factor > 0 && options.backoff_factor < 1, "backoff_factor", "between 0 and 1");
  require(options.growth_interval > 0, "growth_interval", "at least 1");
  const auto float_options = at::TensorOptions().dtype(at::kFloat).device(device);
  scale_ = at::full({}, options.init_scale, float_options);
  growth_tracker_ = at::zeros({}, float_options.dtype(at::kInt));
  found_inf_ = at::zeros({}, float_options);
  skipped_ = at::zeros({}, float_options);
  in_a_row_ = at::zeros({}, float_options);
}

at::Tensor GradScaler::scaleLoss(const at::Tensor& loss) const {
  return loss * scale_.to(loss.scalar_type());
}

void GradScaler::unscale(const std::vector<at::Tensor>& gradients) {
  found_inf_.zero_();
  // In double, as torch does, so that the inverse of a large scale keeps its bits.
  const at::Tensor inverse = scale_.to(at::kDouble).reciprocal().to(at::kFloat);
  // The operator wants one device and dtype per call.
  std::map<at::ScalarType, std::vector<at::Tensor>> by_dtype;
  for (const at::Tensor& gradient : gradients) by_dtype[gradient.scalar_type()].push_back(gradient);
  for (const auto& [dtype, group] : by_dtype) {
    at::_amp_foreach_non_finite_check_and_unscale_(group, found_inf_, inverse);
  }
}

void GradScaler::skipWhere(const at::Tensor& flag) {
  found_inf_.copy_(at::maximum(found_inf_, flag));
}

void GradScaler::update(const at::Tensor* frozen) {
  if (frozen) {
    const std::vector<at::Tensor> numbers{skipped_, in_a_row_, scale_, growth_tracker_};
    std::vector<at::Tensor> before;
    for (const at::Tensor& number : numbers) before.push_back(number.clone());
    update();
    const at::Tensor is_frozen = frozen->ne(0);
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i].copy_(at::where(is_frozen, before[i], numbers[i]));
    }
    return;
  }
  skipped_.add_(found_inf_);
  in_a_row_.add_(found_inf_).mul_(found_inf_);  // found_inf is 0 or 1
  at::_amp_update_scale_(scale_, growth_tracker_, found_inf_, options_.growth_factor, options_.backoff_factor,
                         options_.growth_interval);
}

}  // namespace fornax
