#include "bindings/schedule_options.h"

#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"

namespace fornax::bindings {

namespace {

std::vector<int64_t> readMilestones(const Options& source) {
  return readIntegers(source.require("milestones"), source.name("milestones"));
}

OneCycleOptions readOneCycle(const Options& source) {
  OneCycleOptions cycle;
  cycle.max_lr = source.number("max_lr");
  cycle.total_steps = source.integer("total_steps");
  cycle.pct_start = source.number("pct_start", cycle.pct_start);
  cycle.div_factor = source.number("div_factor", cycle.div_factor);
  cycle.final_div_factor = source.number("final_div_factor", cycle.final_div_factor);
  cycle.linear = source.choice("anneal", {"cos", "linear"}, "cos") == 1;
  cycle.three_phase = source.boolean("three_phase", cycle.three_phase);
  cycle.cycle_momentum = source.boolean("cycle_momentum", cycle.cycle_momentum);
  cycle.base_momentum = source.number("base_momentum", cycle.base_momentum);
  cycle.max_momentum = source.number("max_momentum", cycle.max_momentum);
  return cycle;
}

PlateauOptions readPlateau(const Options& source) {
  PlateauOptions plateau;
  plateau.lr = source.number("lr");
  plateau.min_lr = source.number("min_lr", plateau.min_lr);
  plateau.maximise = source.choice("mode", {"min", "max"}, "min") == 1;
  plateau.factor = source.number("factor", plateau.factor);
  plateau.patience = source.integer("patience", plateau.patience);
  plateau.threshold = source.number("threshold", plateau.threshold);
  plateau.absolute = source.choice("threshold_mode", {"rel", "abs"}, "rel") == 1;
  plateau.cooldown = source.integer("cooldown", plateau.cooldown);
  plateau.eps = source.number("eps", plateau.eps);
  return plateau;
}

SwaRateOptions readSwaRate(const Options& source) {
  SwaRateOptions swa;
  swa.start = source.integer("start");
  swa.lr = source.number("lr");
  swa.anneal_steps = source.integer("anneal_steps", swa.anneal_steps);
  swa.linear = source.choice("anneal", {"cos", "linear"}, "cos") == 1;
  return swa;
}

}  // namespace

ScheduleOptions readSchedule(const Options& source) {
  const std::vector<std::string> names = {"constant",        "step",       "multistep",
                                          "exponential",     "polynomial", "cosine",
                                          "cosine_restarts", "one_cycle",  "reduce_on_plateau"};
  const std::string& name = names[source.choice("name", names, "constant")];
  ScheduleOptions options;
  options.warmup.steps = source.integer("warmup_steps", options.warmup.steps);
  options.warmup.start = source.number("warmup_start", options.warmup.start);
  options.interval = source.integer("interval", options.interval);
  if (source.has("swa")) options.swa = readSwaRate(source.object("swa"));
  if (name == "one_cycle") {
    options.course = readOneCycle(source);
    return options;
  }
  if (name == "reduce_on_plateau") {
    options.course = readPlateau(source);
    return options;
  }
  const double lr = source.number("lr");
  const double min_lr = source.number("min_lr", 0);
  if (name == "constant") {
    options.course = ConstantOptions{lr};
  } else if (name == "step") {
    options.course = StepDecayOptions{lr, source.integer("step_size"), source.number("gamma", 0.1)};
  } else if (name == "multistep") {
    options.course = MultiStepOptions{lr, readMilestones(source), source.number("gamma", 0.1)};
  } else if (name == "exponential") {
    options.course = ExponentialOptions{lr, source.number("gamma")};
  } else if (name == "polynomial") {
    options.course = PolynomialOptions{lr, min_lr, source.integer("total_steps"), source.number("power", 1)};
  } else if (name == "cosine") {
    options.course = CosineOptions{lr, min_lr, source.integer("total_steps")};
  } else {
    options.course = CosineRestartsOptions{lr, min_lr, source.integer("t_0"), source.integer("t_mult", 1)};
  }
  return options;
}

}  // namespace fornax::bindings
