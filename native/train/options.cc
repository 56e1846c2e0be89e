#include "train/options.h"

#include "core/error.h"

namespace fornax {

void checkTrainOptions(const TrainOptions& options) {
  const auto require = [](bool condition, const char* option, const char* expected) {
    if (condition) return;
    throw Error(ErrorKind::Argument, std::string(option) + " must be " + expected,
                std::string("options.") + option);
  };
  require(options.grad_accum >= 1, "grad_accum", "at least 1");
  require(!options.clip_norm || *options.clip_norm > 0, "clip_norm", "greater than 0");
  require(!options.ema || !options.swa, "swa", "left out where there is `ema`");
  require(!options.clip_value || *options.clip_value > 0, "clip_value", "greater than 0");
  require(options.threads >= 0 && options.threads <= 1024, "threads", "between 1 and 1024");
}

}  // namespace fornax
