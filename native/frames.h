// Finds the lines of a body, and makes record frames of its records (src/platform/lane-memory.ts has the picture): what an ingress
// would else do with a call and a view per record.
//
// Promises: nothing outside the body is read. Every range is checked against the body, and the sum against the capacity, before the first byte is written;
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

struct Lines {
  /** Where to go on: the end of the body, or the beginning of a line. */
  size_t position;
  /** Pairs in `ranges`, those that were there included. */
  size_t count;
};

/**
 * Writes from and to of each line behind the pairs that are there, without its newline and a carriage return before that; leaves out
 * lines of white space alone. Stops early where `ranges` is full, and before a line longer than `maxBytes`.
 */
Lines findLines(const uint8_t* body, size_t bodyBytes, Lines from, uint32_t* ranges, size_t pairs, size_t maxBytes);

}  // namespace spillway
