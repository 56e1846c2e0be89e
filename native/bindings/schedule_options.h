// Reads the `schedule` option of a training session.
#pragma once

#include "bindings/options.h"
#include "train/optim/schedule.h"

namespace fornax::bindings {

// ArgumentError naming what is wrong; ranges are checked when the schedule is made.
ScheduleOptions readSchedule(const Options& source);

}  // namespace fornax::bindings
