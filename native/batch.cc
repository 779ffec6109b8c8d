#include "batch.h"

#include <cstring>

#include "constants.h"
#include "crc32c.h"

namespace spillway {

static_assert(kBatchCrcAt + 4 == kBatchHeaderBytes, "the checksum is the last word of the header");
static_assert((kBlockBytes & (kBlockBytes - 1)) == 0, "padding is computed with a mask");

namespace {

/** By address: comparing pointers into different objects is not defined. */
bool overlap(const uint8_t* a, size_t aBytes, const uint8_t* b, size_t bBytes) {
  const auto aFrom = reinterpret_cast<uintptr_t>(a);
  const auto bFrom = reinterpret_cast<uintptr_t>(b);
  return aFrom < bFrom + bBytes && bFrom < aFrom + aBytes;
}

}  // namespace

Sealed seal(uint8_t* staging, size_t capacity, size_t prefixBytes, const Source* sources, size_t sourceCount,
            const Range* ranges, size_t rangeCount) {
  if (prefixBytes < kBatchHeaderBytes) return {SealFault::kPrefixTooShort, 0, 0};
  if (prefixBytes > capacity) return {SealFault::kPrefixTooLong, 0, 0};

  size_t end = prefixBytes;
  for (size_t i = 0; i < rangeCount; i++) {
    const Range& range = ranges[i];
    if (range.source >= sourceCount) return {SealFault::kNoSuchSource, i, 0};
    const Source& source = sources[range.source];
    if (range.from > range.to || range.to > source.length) return {SealFault::kOutsideSource, i, 0};
    const size_t length = range.to - range.from;
    if (length == 0) continue;
    if (overlap(source.bytes + range.from, length, staging, capacity)) return {SealFault::kOverlapsStaging, i, 0};
    if (length > capacity - end) return {SealFault::kTooLong, i, 0};
    end += length;
  }
  const size_t padding = (kBlockBytes - (end & (kBlockBytes - 1))) & (kBlockBytes - 1);
  if (padding > capacity - end) return {SealFault::kTooLong, rangeCount, 0};

  uint32_t crc = crc32c(0, staging, kBatchCrcAt);
  crc = crc32c(crc, staging + kBatchHeaderBytes, prefixBytes - kBatchHeaderBytes);
  uint8_t* to = staging + prefixBytes;
  for (size_t i = 0; i < rangeCount; i++) {
    const Range& range = ranges[i];
    const size_t length = range.to - range.from;
    if (length == 0) continue;
    crc = crc32c_copy(crc, to, sources[range.source].bytes + range.from, length);
    to += length;
  }
  for (int i = 0; i < 4; i++) staging[kBatchCrcAt + i] = static_cast<uint8_t>(crc >> (8 * i));
  if (padding > 0) std::memset(to, 0, padding);
  return {SealFault::kNone, 0, end + padding};
}

}  // namespace spillway
