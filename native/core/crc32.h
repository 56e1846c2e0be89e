// CRC-32 as zip archives hold it (IEEE 802.3, reflected, polynomial 0xEDB88320), eight bytes at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fornax {

// Goes on from `crc`, which is 0 for the first piece.
uint32_t crc32(const void* data, size_t size, uint32_t crc = 0);

}  // namespace fornax
