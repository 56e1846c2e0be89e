// SHA-256 (FIPS 180-4), for checksums of the files we write while they are being written. With the
// processor's own instructions where it has them (sha256_x86.cc).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace fornax {

class Sha256 {
 public:
  void update(const void* data, size_t size);
  // Hex digest; the object must not be used afterwards.
  std::string finish();

 private:
  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> buffer_{};
  size_t buffered_ = 0;
  uint64_t length_ = 0;
};

}  // namespace fornax
