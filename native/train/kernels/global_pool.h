// Global average pooling whose gradient has the memory format of its input. libtorch's comes out in
// contiguous memory: behind a channels-last network the next operators backward then walk two layouts at once
// (five times slower), and a copy follows.
#pragma once

namespace fornax {

// aten::adaptive_avg_pool2d to one pixel; takes the input only.
inline constexpr const char* kGlobalPool = "fornax::global_avg_pool";

}  // namespace fornax
