// Squeeze-and-excitation (Hu et al. 2017, arXiv:1709.01507, equations 2 and 4) in few passes over memory:
//
//   fornax::pool_through(x) -> (x, means)   the means over the pixels, [N, C, 1, 1], and x itself
//   fornax::gate(gate, x) -> y              x · gate, with gate [N, C, 1, 1]
//
// Backward, a gate writes the gradient of x, in the memory of the incoming one where nobody else holds it,
// and sums up that of the gate in the same pass. As the gate reads the x that pool_through passes on, both
// gradients of x meet there, and that of the means is added in place instead of being spread out in memory of
// its own and added in a further pass. What the kernels cannot take goes to the separate operators.
#pragma once

namespace fornax {

constexpr const char* kPoolThrough = "fornax::pool_through";
constexpr const char* kGate = "fornax::gate";

}  // namespace fornax
