// Seals a batch: gathers byte ranges behind a prefix, checksums the whole, pads it to a block. Bytes only: what the
// prefix says and which ranges belong together is decided in TypeScript (src/log/format.ts).
//
//      0            60    64         prefixBytes                      end          padded
//      ├─ header ───┼ crc ┼─ table ──┼─ range 0 ─┬─ range 1 ─┬─ … ────┼─ zeros ────┤
//      └─ summed ───┘     └─ summed ──────────────────────────────────┘
//
// Promises:
//  - every range is checked against its source, and the sum against the capacity, before the first byte is copied:
//    a refused batch leaves the staging buffer as it was;
//  - nothing is written past `capacity`; the padded length is a multiple of kBlockBytes and never above it;
//  - the CRC-32C covers all but its own four bytes and the padding; it is stored little-endian at kBatchCrcAt.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway {

struct Source {
  const uint8_t* bytes;
  size_t length;
};

/** Bytes from (included) to (excluded) of one source. */
struct Range {
  size_t source;
  size_t from;
  size_t to;
};

enum class SealFault { kNone, kPrefixTooShort, kPrefixTooLong, kNoSuchSource, kOutsideSource, kOverlapsStaging, kTooLong };

struct Sealed {
  SealFault fault;
  /** Which range the fault is about. */
  size_t range;
  /** Length with padding; 0 after a fault. */
  size_t paddedBytes;
};

/** @param prefixBytes header and stream table that already stand in `staging` */
Sealed seal(uint8_t* staging, size_t capacity, size_t prefixBytes, const Source* sources, size_t sourceCount,
            const Range* ranges, size_t rangeCount);

}  // namespace spillway
