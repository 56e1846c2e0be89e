// Initialisers, drawn natively (Glorot & Bengio 2010; He et al. 2015; torch.nn.init).
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "graph/spec.h"

namespace fornax {

// Fills `tensor` in place. GraphError if fans are asked of a tensor with fewer than two dimensions.
void drawInit(at::Tensor& tensor, const InitSpec& init, const at::Generator& generator);

}  // namespace fornax
