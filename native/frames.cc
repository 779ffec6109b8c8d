#include "frames.h"

#include <cstring>

#include "constants.h"

namespace spillway {

namespace {

size_t frameBytes(size_t keyBytes, size_t payloadBytes) {
  return (kRecordHeaderBytes + keyBytes + payloadBytes + kRecordAlignBytes - 1) & ~(size_t{kRecordAlignBytes} - 1);
}

bool isBlank(const uint8_t* from, const uint8_t* to) {
  for (; from < to; from++) {
    if (*from != ' ' && *from != '\t' && *from != '\r') return false;
  }
  return true;
}

}  // namespace

Lines findLines(const uint8_t* body, size_t bodyBytes, Lines from, uint32_t* ranges, size_t pairs, size_t maxBytes) {
  auto [position, count] = from;
  while (position < bodyBytes) {
    const uint8_t* line = body + position;
    const void* newline = std::memchr(line, '\n', bodyBytes - position);
    const size_t lineEnd = newline == nullptr ? bodyBytes : static_cast<const uint8_t*>(newline) - body;
    const size_t next = newline == nullptr ? bodyBytes : lineEnd + 1;
    const size_t end = newline != nullptr && lineEnd > position && body[lineEnd - 1] == '\r' ? lineEnd - 1 : lineEnd;
    if (*line <= ' ' && isBlank(line, body + end)) {
      position = next;
      continue;
    }
    if (count == pairs || end - position > maxBytes) break;
    ranges[2 * count] = static_cast<uint32_t>(position);
    ranges[2 * count + 1] = static_cast<uint32_t>(end);
    count++;
    position = next;
  }
  return {position, count};
}

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
