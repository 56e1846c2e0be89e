#include "device/own_stream.h"

#include "device/side_stream.h"

namespace fornax {

namespace {

c10::Stream take(c10::Device device) {
#ifdef FORNAX_CUDA
  if (device.is_cuda()) return takeCudaStream(device);
#endif
  return sideStream(device);
}

}  // namespace

OwnStream::OwnStream(c10::Device device) : stream_(take(device)) {}

OwnStream::~OwnStream() {
#ifdef FORNAX_CUDA
  if (stream_.device().is_cuda()) giveBackCudaStream(stream_);
#endif
}

}  // namespace fornax
