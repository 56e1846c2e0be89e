// Random generators that belong to a session: no other thread's draws can change them.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace fornax {

at::Generator makeGenerator(c10::Device device, uint64_t seed);

}  // namespace fornax
