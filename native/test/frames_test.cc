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

/** The same, byte by byte. */
std::vector<uint32_t> slowly(const std::vector<uint8_t>& body) {
  std::vector<uint32_t> ranges;
  for (size_t from = 0; from < body.size();) {
    size_t end = from;
    while (end < body.size() && body[end] != '\n') end++;
    const size_t next = end < body.size() ? end + 1 : end;
    if (next > end && end > from && body[end - 1] == '\r') end--;
    bool blank = true;
    for (size_t i = from; i < end; i++) blank = blank && (body[i] == ' ' || body[i] == '\t' || body[i] == '\r');
    if (!blank) {
      ranges.push_back(static_cast<uint32_t>(from));
      ranges.push_back(static_cast<uint32_t>(end));
    }
    from = next;
  }
  return ranges;
}

void lines() {
  Generator random(2);
  const uint8_t letters[] = {'a', 'b', '\n', '\n', '\r', ' ', '\t', 0};
  for (int round = 0; round < 3000; round++) {
    std::vector<uint8_t> body(random.below(60));
    for (uint8_t& byte : body) byte = letters[random.below(sizeof letters)];
    const std::vector<uint32_t> wanted = slowly(body);
    const size_t pairs = 1 + random.below(4);
    const size_t maxBytes = random.below(6);
    std::vector<uint32_t> found;
    for (size_t position = 0; position < body.size();) {
      std::vector<uint32_t> ranges(2 * pairs);
      const Lines to = findLines(body.data(), body.size(), {position, 0}, ranges.data(), pairs, maxBytes);
      CHECK(to.count <= pairs);
      found.insert(found.end(), ranges.begin(), ranges.begin() + static_cast<long>(2 * to.count));
      position = to.position;
      if (position == body.size() || to.count == pairs) continue;
      // Stopped before a line that is too long: taken by hand, as the caller does.
      size_t end = position;
      while (end < body.size() && body[end] != '\n') end++;
      const size_t next = end < body.size() ? end + 1 : end;
      if (next > end && body[end - 1] == '\r') end--;
      CHECK(end - position > maxBytes);
      found.push_back(static_cast<uint32_t>(position));
      found.push_back(static_cast<uint32_t>(end));
      position = next;
    }
    CHECK(found == wanted);
  }
}

}  // namespace

int main() {
  layout();
  refused();
  lines();
  return 0;
}
