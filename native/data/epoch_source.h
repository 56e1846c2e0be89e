// A source whose epochs can be started, in any order and from any batch: what a Loader handle of the contract
// holds.
#pragma once

#include <cstdint>

#include "data/batch.h"

namespace fornax {

class EpochSource : public BatchSource {
 public:
  // Starts or restarts an epoch at batch `skip` (what was passed over is not assembled). Not while another
  // thread is in next(). ArgumentError, DataError.
  virtual void startEpoch(int64_t epoch, int64_t skip = 0) = 0;
  // Bytes that it holds for itself.
  virtual int64_t memory() const = 0;
  // A waiting next() throws DisposedError, and so does every later one. Idempotent, from any thread but the
  // source's own.
  virtual void close() noexcept = 0;
};

}  // namespace fornax
