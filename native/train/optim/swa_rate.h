// The learning rate while weights are averaged (torch.optim.swa_utils.SWALR, per step): from what the
// schedule has reached to a constant one.
#pragma once

#include <memory>

#include "train/optim/schedule.h"

namespace fornax {

// Throws fornax::Error (Argument) for options out of range, or a schedule with a state.
std::unique_ptr<Schedule> withSwaRate(const SwaRateOptions& options, std::unique_ptr<Schedule> schedule);

}  // namespace fornax
