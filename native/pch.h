// Precompiled: the few heavy headers that most units need.
#pragma once

#include <ATen/ATen.h>
#include <napi.h>

#include <string>
#include <unordered_map>
#include <vector>
