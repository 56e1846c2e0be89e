// Operators that a graph from a file may use: functional ones only. What reads or writes files, aliases
// storage at will or resizes in place is not among them.
#pragma once

#include <string>

namespace fornax {

// `name` with or without overload. True if every overload of the operator is harmless.
bool isAllowedInFiles(const std::string& name);

}  // namespace fornax
