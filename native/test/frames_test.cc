// Frames: what stands where, and that a refused body leaves no trace.

#include "frames.h"

#include <cstring>

#include "check.h"
#include "constants.h"

using namespace spillway;

namespace {

uint32_t word(const uint8_t* at) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) value |= uint32_t{at[i]} << (8 * i);
  return value;
}

void layout() {
  Generator random(1);
  for (int round = 0; round < 300; round++) {
    const std::vector<uint8_t> body = random.bytes(1 + random.below(5000));
    const auto keyBytes = static_cast<uint16_t>(random.below(2) * 24);
    std::vector<uint32_t> ranges;
    size_t from = 0;
    while (from < body.size()) {
      const size_t to = from + random.below(body.size() - from + 1);
      ranges.push_back(static_cast<uint32_t>(from));
      ranges.push_back(static_cast<uint32_t>(to));
      from = to + 1;
    }
    const size_t records = ranges.size() / 2;
    std::vector<uint8_t> out = random.bytes(body.size() + records * 64 + 64);
    const std::vector<uint8_t> before = out;
    const Framed framed = encodeFrames(out.data(), out.size(), body.data(), body.size(), ranges.data(), records, keyBytes);
    CHECK(framed.fault == FrameFault::kNone);
    size_t at = 0;
    for (size_t i = 0; i < records; i++) {
      const size_t payload = ranges[2 * i + 1] - ranges[2 * i];
      CHECK_EQUAL(size_t{word(&out[at])}, payload);
      for (size_t b = 4; b < 14; b++) CHECK_EQUAL(int{out[at + b]}, 0);
      CHECK_EQUAL(int{out[at + 14]} + 256 * int{out[at + 15]}, int{keyBytes});
      at += kRecordHeaderBytes;
      for (size_t b = 0; b < keyBytes; b++) CHECK_EQUAL(int{out[at + b]}, 0);
      at += keyBytes;
      CHECK(payload == 0 || std::memcmp(&out[at], &body[ranges[2 * i]], payload) == 0);
      at += payload;
      while (at % kRecordAlignBytes != 0) CHECK_EQUAL(int{out[at++]}, 0);
    }
    CHECK_EQUAL(framed.bytes, at);
    CHECK(std::memcmp(&out[at], &before[at], out.size() - at) == 0);
  }
}

void refused() {
  const uint8_t body[10] = {1, 2, 3};
  uint8_t out[64];
  std::memset(out, 7, sizeof out);
  const uint32_t fine[] = {0, 10, 2, 2};
  const uint32_t beyond[] = {0, 3, 4, 11};
  const uint32_t backwards[] = {0, 3, 5, 4};
  CHECK(encodeFrames(out, 47, body, 10, fine, 2, 0).fault == FrameFault::kTooLong);
  CHECK(encodeFrames(out, 64, body, 10, beyond, 2, 0).fault == FrameFault::kOutsideBody);
  CHECK_EQUAL(encodeFrames(out, 64, body, 10, beyond, 2, 0).record, size_t{1});
  CHECK(encodeFrames(out, 64, body, 10, backwards, 2, 0).fault == FrameFault::kOutsideBody);
  for (const uint8_t byte : out) CHECK_EQUAL(int{byte}, 7);
  CHECK_EQUAL(encodeFrames(out, 48, body, 10, fine, 2, 0).bytes, size_t{48});
  CHECK_EQUAL(encodeFrames(out, 0, body, 10, fine, 0, 0).bytes, size_t{0});
}

}  // namespace

int main() {
  layout();
  refused();
  return 0;
}
