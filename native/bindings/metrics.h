// Results of native/metrics as JavaScript objects, with the names of the contract.
#pragma once

#include <napi.h>

#include <optional>

#include "metrics/classification.h"

namespace fornax::bindings {

// null where there is none.
Napi::Value optionalNumber(Napi::Env env, std::optional<double> value);

Napi::Object metricsObject(Napi::Env env, const ClassificationResult& result);

}  // namespace fornax::bindings
