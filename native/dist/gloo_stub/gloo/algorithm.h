// Declarations that stand in for Gloo's own headers, which libtorch's packages lack although Gloo itself is
// compiled into libtorch_cpu: just enough that c10d's ProcessGroupGloo.hpp compiles. Nothing of Gloo is
// constructed or called from here; the objects behind the pointers are libtorch's. Only gloo_backend.cc
// sees them.
#pragma once
