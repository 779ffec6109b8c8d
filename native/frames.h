// Cuts a body into record frames (src/platform/lane-memory.ts has the picture): what an ingress that has found its records would
// else do with a view per record.
//
// Promises: every range is checked against the body, and the sum against the capacity, before the first byte is written;
// nothing is written past it. Stream, time and identity are left 0 for whoever puts the frames into a lane.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway {

enum class FrameFault { kNone, kOutsideBody, kTooLong };

struct Framed {
  FrameFault fault;
  /** Which record the fault is about. */
  size_t record;
  /** Bytes of all frames; 0 after a fault. */
  size_t bytes;
};

/**
 * @param ranges pairs of from (included) and to (excluded)
 * @param keyBytes zeros in front of each payload, counted as its key
 */
Framed encodeFrames(uint8_t* out, size_t capacity, const uint8_t* body, size_t bodyBytes, const uint32_t* ranges,
                    size_t records, uint16_t keyBytes);

}  // namespace spillway
