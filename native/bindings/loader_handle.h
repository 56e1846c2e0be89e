// The `Loader` class of the contract: a native source of epochs and, for scripts that call next(), one thread
// that waits for batches on their behalf.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "data/batch.h"

namespace fornax::bindings {

// JavaScript thread. Takes the loader for a run: until the pointer and its copies are gone, next() and
// startEpoch() of the handle and other runs are refused. The pointer may be dropped on any thread, and must
// be dropped before the promise of the run is settled. The source outlives the handle; disposing of the
// handle makes source->next() throw DisposedError. ArgumentError if `value` is not a Loader or is in use,
// DisposedError after dispose().
std::shared_ptr<BatchSource> unwrapLoader(Napi::Value value, const std::string& what);

}  // namespace fornax::bindings
