// Sealing: what stands where, what is summed, and that a refused batch leaves no trace.

#include "batch.h"

#include <cstring>

#include "check.h"
#include "constants.h"
#include "crc32c.h"

using namespace spillway;

namespace {

constexpr size_t kBlock = kBlockBytes;

uint32_t storedCrc(const uint8_t* staging) {
  uint32_t crc = 0;
  for (int i = 0; i < 4; i++) crc |= uint32_t{staging[kBatchCrcAt + i]} << (8 * i);
  return crc;
}

void layout() {
  Generator random(1);
  for (int round = 0; round < 300; round++) {
    const std::vector<uint8_t> a = random.bytes(1 + random.below(20000));
    const std::vector<uint8_t> b = random.bytes(1 + random.below(300));
    const Source sources[] = {{a.data(), a.size()}, {b.data(), b.size()}};
    const size_t prefix = 64 + random.below(500);
    std::vector<Range> ranges;
    std::vector<uint8_t> staging = random.bytes(64 * kBlock);
    std::vector<uint8_t> wanted(staging.begin(), staging.begin() + static_cast<ptrdiff_t>(prefix));
    for (size_t i = random.below(6); i > 0; i--) {
      const size_t source = random.below(2);
      const size_t from = random.below(sources[source].length + 1);
      const size_t to = from + random.below(sources[source].length - from + 1);
      ranges.push_back({source, from, to});
      wanted.insert(wanted.end(), sources[source].bytes + from, sources[source].bytes + to);
    }
    const std::vector<uint8_t> before = staging;
    const Sealed sealed = seal(staging.data(), staging.size(), prefix, sources, 2, ranges.data(), ranges.size());
    CHECK(sealed.fault == SealFault::kNone);
    CHECK_EQUAL(sealed.paddedBytes, (wanted.size() + kBlock - 1) / kBlock * kBlock);
    const uint32_t crc = crc32c_portable(crc32c_portable(0, wanted.data(), 60), wanted.data() + 64, wanted.size() - 64);
    CHECK_EQUAL(storedCrc(staging.data()), crc);
    CHECK(std::memcmp(staging.data(), wanted.data(), 60) == 0);
    CHECK(std::memcmp(staging.data() + 64, wanted.data() + 64, wanted.size() - 64) == 0);
    for (size_t i = wanted.size(); i < sealed.paddedBytes; i++) CHECK_EQUAL(int{staging[i]}, 0);
    CHECK(std::memcmp(staging.data() + sealed.paddedBytes, before.data() + sealed.paddedBytes,
                      staging.size() - sealed.paddedBytes) == 0);
  }
}

void exactFit() {
  const std::vector<uint8_t> bytes(kBlock, 7);
  const Source source = {bytes.data(), bytes.size()};
  std::vector<uint8_t> staging(kBlock);
  const Range fits = {0, 0, kBlock - 64};
  const Sealed sealed = seal(staging.data(), staging.size(), 64, &source, 1, &fits, 1);
  CHECK(sealed.fault == SealFault::kNone);
  CHECK_EQUAL(sealed.paddedBytes, kBlock);
  CHECK_EQUAL(int{staging[kBlock - 1]}, 7);
  CHECK_EQUAL(seal(staging.data(), staging.size(), kBlock, nullptr, 0, nullptr, 0).paddedBytes, kBlock);
}

void refused(SealFault fault, size_t range, size_t capacity, size_t prefix, const std::vector<Source>& sources,
             const std::vector<Range>& ranges, std::vector<uint8_t>& staging) {
  const std::vector<uint8_t> before = staging;
  const Sealed sealed =
      seal(staging.data(), capacity, prefix, sources.data(), sources.size(), ranges.data(), ranges.size());
  CHECK_EQUAL(static_cast<int>(sealed.fault), static_cast<int>(fault));
  CHECK_EQUAL(sealed.range, range);
  CHECK_EQUAL(sealed.paddedBytes, 0u);
  CHECK(staging == before);
}

void refusals() {
  std::vector<uint8_t> staging(3 * kBlock, 0x5a);
  const std::vector<uint8_t> bytes(4 * kBlock, 1);
  const std::vector<Source> sources = {{bytes.data(), 100}, {bytes.data(), bytes.size()}};
  const size_t capacity = staging.size();
  const size_t max = SIZE_MAX;

  refused(SealFault::kPrefixTooShort, 0, capacity, 63, sources, {}, staging);
  refused(SealFault::kPrefixTooLong, 0, capacity, capacity + 1, sources, {}, staging);
  refused(SealFault::kNoSuchSource, 1, capacity, 64, sources, {{0, 0, 10}, {2, 0, 0}}, staging);
  refused(SealFault::kOutsideSource, 1, capacity, 64, sources, {{0, 0, 100}, {0, 0, 101}}, staging);
  refused(SealFault::kOutsideSource, 0, capacity, 64, sources, {{0, 10, 9}}, staging);
  refused(SealFault::kOutsideSource, 0, capacity, 64, sources, {{0, max, max}}, staging);
  refused(SealFault::kOutsideSource, 0, capacity, 64, sources, {{0, max - 1, 1}}, staging);
  refused(SealFault::kTooLong, 0, capacity, 64, sources, {{1, 0, capacity - 63}}, staging);
  refused(SealFault::kTooLong, 1, capacity, 64, sources, {{1, 0, 2 * kBlock}, {1, 0, 2 * kBlock}}, staging);
  // The bytes fit, the padding does not.
  refused(SealFault::kTooLong, 1, capacity - 1, 64, sources, {{1, 0, 2 * kBlock}}, staging);

  const std::vector<Source> self = {{staging.data() + kBlock, kBlock}};
  refused(SealFault::kOverlapsStaging, 0, capacity, 64, self, {{0, 0, 1}}, staging);
  // Neighbours in one piece of memory are not an overlap.
  CHECK(seal(staging.data(), kBlock, 64, self.data(), 1, std::vector<Range>{{0, 0, 10}}.data(), 1).fault ==
        SealFault::kNone);
}

}  // namespace

int main() {
  layout();
  exactFit();
  refusals();
}
