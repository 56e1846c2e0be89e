#include "core/generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

namespace fornax {

at::Generator makeGenerator(c10::Device device, uint64_t seed) {
  // The meta device draws nothing; a CPU generator satisfies the operators' signatures.
  if (device.is_cpu() || device.is_meta()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  at::Generator generator =
      at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index());
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace fornax
