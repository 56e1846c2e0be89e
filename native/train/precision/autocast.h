// Mixed precision for the forward and the loss: switches libtorch's autocast on for one device on the calling
// thread, and back at the end of the scope. The cache of cast weights lives as long as the scope, because the
// next step's weights are different.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "train/options.h"

namespace fornax {

class AutocastScope {
 public:
  AutocastScope(c10::DeviceType device, Precision precision);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  c10::DeviceType device_;
  bool active_;
  bool previous_enabled_ = false;
  c10::ScalarType previous_dtype_ = c10::ScalarType::Undefined;
};

}  // namespace fornax
