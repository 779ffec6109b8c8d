// CRC-32C (Castagnoli: reflected, starts from and ends with 0xFFFFFFFF), the checksum of every batch on disk.
//
// Promises:
//  - "123456789" gives 0xE3069283; crc32c(crc32c(0, a), b) equals the checksum of a followed by b;
//  - hardware and portable results are the same for every length and alignment, on either byte order;
//  - the processor is asked once, at the first call: the library as a whole needs no -msse4.2;
//  - nothing is allocated and nothing throws.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway {

/** @param crc result for the bytes before these; 0 to begin */
uint32_t crc32c(uint32_t crc, const void* bytes, size_t length);

/** The same without special instructions: several times slower. */
uint32_t crc32c_portable(uint32_t crc, const void* bytes, size_t length);

/**
 * Copies and checksums in one pass over memory; the two regions must not overlap. The checksum is that of the copy: if
 * a producer breaks its promise and writes meanwhile, it still matches the bytes that go to disk.
 */
uint32_t crc32c_copy(uint32_t crc, void* to, const void* from, size_t length);

/** Whether crc32c runs on instructions made for it. */
bool crc32c_hardware();

}  // namespace spillway
