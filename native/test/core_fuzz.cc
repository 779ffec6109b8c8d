// libFuzzer: whatever the arguments, findLines, encodeFrames and seal read and write within their bounds (the sanitizers see it), and
// give what their headers promise, judged by hand. Every buffer is exactly as long as it says, on the heap, so that one byte beyond is
// seen. Compiled and run by `npm run test:fuzz` (test/fuzz/native.ts), where there is clang.
//
//     what u8: 0 lines, 1 frames, 2 seal · numbers · bytes

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "batch.h"
#include "constants.h"
#include "crc32c.h"
#include "frames.h"

using namespace spillway;

namespace {

#define MUST(condition)                                                  \
  do {                                                                   \
    if (!(condition)) {                                                  \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                      \
    }                                                                    \
  } while (false)

class Taker {
 public:
  Taker(const uint8_t* data, size_t size) : at_(data), left_(size) {}
  uint8_t u8() { return left_ == 0 ? 0 : (left_--, *at_++); }
  uint32_t number(int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) value |= uint32_t{u8()} << (8 * i);
    return value;
  }
  /** A place in so many bytes, now and then far outside. */
  uint32_t place(size_t bytes) {
    const uint8_t how = u8();
    return how == 0xff ? number(4) : static_cast<uint32_t>(number(2) % (bytes + (how == 0xfe ? 2 : 1)));
  }
  std::vector<uint8_t> take(size_t bytes) {
    bytes = bytes < left_ ? bytes : left_;
    std::vector<uint8_t> out(at_, at_ + bytes);
    at_ += bytes;
    left_ -= bytes;
    return out;
  }
  std::vector<uint8_t> rest() { return take(left_); }

 private:
  const uint8_t* at_;
  size_t left_;
};

/** Exactly so many bytes; behind them nothing may be touched. */
template <typename T>
std::unique_ptr<T[]> exactly(size_t count, T fill) {
  std::unique_ptr<T[]> out(new T[count]);
  for (size_t i = 0; i < count; i++) out[i] = fill;
  return out;
}

bool blank(const std::vector<uint8_t>& body, size_t from, size_t to) {
  for (; from < to; from++) {
    if (body[from] != ' ' && body[from] != '\t' && body[from] != '\r') return false;
  }
  return true;
}

void lines(Taker& t) {
  const size_t pairs = t.u8() % 20;
  const size_t had = t.u8() % (pairs + 1);
  const size_t maxBytes = t.u8();
  const uint32_t start = t.place(255);
  std::vector<uint8_t> body = t.rest();
  body.shrink_to_fit();
  const size_t from = start < body.size() ? start : body.size();
  auto ranges = exactly<uint32_t>(2 * pairs, 0xaaaaaaaa);
  const Lines got = findLines(body.data(), body.size(), {from, had}, ranges.get(), pairs, maxBytes);
  MUST(got.position >= from && got.position <= body.size() && got.count >= had && got.count <= pairs);
  for (size_t i = 0; i < 2 * had; i++) MUST(ranges[i] == 0xaaaaaaaa);
  for (size_t i = 2 * got.count; i < 2 * pairs; i++) MUST(ranges[i] == 0xaaaaaaaa);

  // By hand: a line at a time.
  size_t at = from, count = had;
  while (at < body.size()) {
    size_t end = at;
    while (end < body.size() && body[end] != '\n') end++;
    const size_t next = end < body.size() ? end + 1 : end;
    if (end < body.size() && end > at && body[end - 1] == '\r') end--;
    if (!blank(body, at, end)) {
      if (count == pairs || end - at > maxBytes) break;
      MUST(ranges[2 * count] == at && ranges[2 * count + 1] == end);
      count++;
    }
    at = next;
  }
  MUST(at == got.position && count == got.count);
}

void frames(Taker& t) {
  const size_t records = t.u8() % 12;
  const auto keyBytes = static_cast<uint16_t>(t.u8() % 3 == 0 ? t.number(2) : (t.u8() & 1) * 24);
  const size_t spare = t.u8();
  const size_t bodyBytes = t.u8();
  auto ranges = exactly<uint32_t>(2 * records, 0);
  for (size_t i = 0; i < 2 * records; i++) ranges[i] = t.place(bodyBytes);
  std::vector<uint8_t> body = t.take(bodyBytes);
  body.shrink_to_fit();
  size_t needed = 0, bad = records;
  for (size_t i = 0; i < records && bad == records; i++) {
    if (ranges[2 * i] > ranges[2 * i + 1] || ranges[2 * i + 1] > body.size()) bad = i;
    else needed += (16 + keyBytes + ranges[2 * i + 1] - ranges[2 * i] + 7) / 8 * 8;
  }
  // Just enough room, or less.
  const size_t capacity = spare == 255 || spare > needed ? needed : needed - spare;
  auto out = exactly<uint8_t>(capacity, 0xaa);
  const Framed got = encodeFrames(out.get(), capacity, body.data(), body.size(), ranges.get(), records, keyBytes);
  if (got.fault != FrameFault::kNone) {
    MUST(got.bytes == 0 && (bad < records || capacity < needed));
    if (got.fault == FrameFault::kOutsideBody) MUST(got.record == bad);
    for (size_t i = 0; i < capacity; i++) MUST(out[i] == 0xaa);
    return;
  }
  MUST(bad == records && got.bytes == needed);
  size_t at = 0;
  for (size_t i = 0; i < records; i++) {
    const size_t payloadBytes = ranges[2 * i + 1] - ranges[2 * i];
    const size_t head = 16 + keyBytes;
    uint32_t stated = 0;
    for (int b = 0; b < 4; b++) stated |= uint32_t{out[at + b]} << (8 * b);
    MUST(stated == payloadBytes && (out[at + 14] | out[at + 15] << 8) == keyBytes);
    for (size_t k = 16; k < head; k++) MUST(out[at + k] == 0);
    for (size_t k = 0; k < payloadBytes; k++) MUST(out[at + head + k] == body[ranges[2 * i] + k]);
    at += (head + payloadBytes + 7) / 8 * 8;
  }
  MUST(at == got.bytes);
}

void sealed(Taker& t) {
  const size_t prefixBytes = t.u8() % 4 == 0 ? t.number(2) : kBatchHeaderBytes + t.u8();
  const size_t capacity = t.u8() % 4 == 0 ? t.number(2) % (3 * kBlockBytes) : (1 + t.u8() % 3) * size_t{kBlockBytes};
  const size_t sourceCount = t.u8() % 4;
  const size_t rangeCount = t.u8() % 12;
  const bool inStaging = t.u8() == 0xff;
  std::vector<std::vector<uint8_t>> memory;
  std::vector<size_t> lengths;
  for (size_t i = 0; i < sourceCount; i++) lengths.push_back(t.number(2) % 3000);
  std::vector<Range> ranges;
  for (size_t i = 0; i < rangeCount; i++) {
    const size_t source = t.u8() % 5;
    const size_t length = source < sourceCount ? lengths[source] : 0;
    const size_t from = t.place(length);
    ranges.push_back({source, from, t.place(length)});
  }
  auto staging = exactly<uint8_t>(capacity, 0xaa);
  std::vector<Source> sources;
  for (size_t i = 0; i < sourceCount; i++) {
    memory.push_back(t.take(lengths[i]));
    memory[i].resize(lengths[i], static_cast<uint8_t>(i + 1));
    memory[i].shrink_to_fit();
  }
  for (size_t i = 0; i < sourceCount; i++) sources.push_back({memory[i].data(), memory[i].size()});
  if (inStaging && sourceCount > 0) sources[0] = {staging.get(), capacity};
  const Sealed got =
      seal(staging.get(), capacity, prefixBytes, sources.data(), sources.size(), ranges.data(), ranges.size());
  if (got.fault != SealFault::kNone) {
    MUST(got.paddedBytes == 0);
    for (size_t i = 0; i < capacity; i++) MUST(staging[i] == 0xaa);
    return;
  }
  MUST(got.paddedBytes <= capacity && got.paddedBytes % kBlockBytes == 0 && prefixBytes >= kBatchHeaderBytes);
  size_t at = prefixBytes;
  for (const Range& range : ranges) {
    MUST(range.source < sources.size() && range.from <= range.to && range.to <= sources[range.source].length);
    const size_t length = range.to - range.from;
    if (length == 0) continue;
    MUST(std::memcmp(staging.get() + at, sources[range.source].bytes + range.from, length) == 0);
    at += length;
  }
  MUST(at <= got.paddedBytes && got.paddedBytes - at < kBlockBytes);
  for (size_t i = at; i < got.paddedBytes; i++) MUST(staging[i] == 0);
  uint32_t stored = 0;
  for (int i = 0; i < 4; i++) stored |= uint32_t{staging[kBatchCrcAt + i]} << (8 * i);
  const uint32_t crc = crc32c_portable(0, staging.get(), kBatchCrcAt);
  MUST(stored == crc32c_portable(crc, staging.get() + kBatchHeaderBytes, at - kBatchHeaderBytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Taker t(data, size);
  switch (t.u8() % 3) {
    case 0:
      lines(t);
      break;
    case 1:
      frames(t);
      break;
    default:
      sealed(t);
  }
  return 0;
}
