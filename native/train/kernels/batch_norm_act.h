// Batch norm, what is added to it and the activation after it as one operator on the CPU. Memory bandwidth
// bounds all three, so what counts is how often a tensor is read and written. Forward: one pass for the
// statistics, one that reads x and writes y. Backward: one pass for the sums, one that writes the gradient;
// what the activation's derivative depends on is computed again from x instead of being kept.
#pragma once

#include <optional>
#include <string>

#include "train/kernels/row_kernels.h"

namespace fornax {

// batch_norm_act(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean, Tensor(b!)? running_var,
//   Tensor(c!)? num_batches_tracked, int mode, float? momentum, float eps,
//   Tensor? residual, str activation, float low, float high, ScalarType? out_dtype) -> Tensor
// = activation(batch_norm(x, …) + residual), converted to out_dtype. The first nine arguments are those of
// fornax::batch_norm. Computes in one go where x lies row by row (channels-last, or two-dimensional) in
// float32 or bfloat16; elsewhere it calls the separate operators.
inline constexpr const char* kBatchNormAct = "fornax::batch_norm_act";

// none, relu, clamp(low, high), leaky_relu(slope = low), silu, hardswish; nullopt for another name.
std::optional<ActivationKind> activationNamed(std::string_view name);

}  // namespace fornax
