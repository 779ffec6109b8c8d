#include "frames.h"

#include <cstring>

#include "constants.h"

namespace spillway {

namespace {

size_t frameBytes(size_t keyBytes, size_t payloadBytes) {
  return (kRecordHeaderBytes + keyBytes + payloadBytes + kRecordAlignBytes - 1) & ~(size_t{kRecordAlignBytes} - 1);
}

}  // namespace

Framed encodeFrames(uint8_t* out, size_t capacity, const uint8_t* body, size_t bodyBytes, const uint32_t* ranges,
                    size_t records, uint16_t keyBytes) {
  size_t end = 0;
  for (size_t i = 0; i < records; i++) {
    const size_t from = ranges[2 * i];
    const size_t to = ranges[2 * i + 1];
    if (from > to || to > bodyBytes) return {FrameFault::kOutsideBody, i, 0};
    const size_t length = frameBytes(keyBytes, to - from);
    if (length > capacity - end) return {FrameFault::kTooLong, i, 0};
    end += length;
  }
  uint8_t* at = out;
  for (size_t i = 0; i < records; i++) {
    const size_t from = ranges[2 * i];
    const size_t payloadBytes = ranges[2 * i + 1] - from;
    const size_t length = frameBytes(keyBytes, payloadBytes);
    const size_t head = kRecordHeaderBytes + keyBytes;
    std::memset(at, 0, head);
    for (int b = 0; b < 4; b++) at[b] = static_cast<uint8_t>(payloadBytes >> (8 * b));
    at[14] = static_cast<uint8_t>(keyBytes);
    at[15] = static_cast<uint8_t>(keyBytes >> 8);
    if (payloadBytes > 0) std::memcpy(at + head, body + from, payloadBytes);
    std::memset(at + head + payloadBytes, 0, length - head - payloadBytes);
    at += length;
  }
  return {FrameFault::kNone, 0, end};
}

}  // namespace spillway
