// CRC-32C: known answers, one result for every way to compute it.

#include "crc32c.h"

#include <cstring>

#include "check.h"

using namespace spillway;

namespace {

using Function = uint32_t (*)(uint32_t, const void*, size_t);

/** Bit by bit from the definition: shares nothing with the code under test. */
uint32_t reference(const uint8_t* p, size_t length) {
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < length; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
  }
  return ~crc;
}

/** The last four are from RFC 3720, B.4. */
void knownAnswers(Function crc) {
  CHECK_EQUAL(crc(0, "123456789", 9), 0xe3069283u);
  CHECK_EQUAL(crc(0, "", 0), 0u);
  CHECK_EQUAL(crc(7, "", 0), 7u);
  uint8_t block[32];
  std::memset(block, 0, sizeof block);
  CHECK_EQUAL(crc(0, block, 32), 0x8a9136aau);
  std::memset(block, 0xff, sizeof block);
  CHECK_EQUAL(crc(0, block, 32), 0x62a8ab43u);
  for (uint8_t i = 0; i < 32; i++) block[i] = i;
  CHECK_EQUAL(crc(0, block, 32), 0x46dd794eu);
  for (uint8_t i = 0; i < 32; i++) block[i] = static_cast<uint8_t>(31 - i);
  CHECK_EQUAL(crc(0, block, 32), 0x113fdb5cu);
}

/** Past two long triples, so that every loop of the hardware version runs, and stops at each of its edges. */
void everyLengthAgrees() {
  const std::vector<uint8_t> bytes = Generator(1).bytes(30000);
  std::vector<size_t> lengths;
  for (size_t n = 0; n <= 4096; n++) lengths.push_back(n);
  for (const size_t edge : {12288, 13056, 24576, 25344}) {
    for (size_t n = edge - 9; n <= edge + 9; n++) lengths.push_back(n);
  }
  for (const size_t n : lengths) {
    const uint8_t* p = bytes.data() + n % 17;
    const uint32_t wanted = crc32c_portable(0, p, n);
    CHECK_EQUAL(crc32c(0, p, n), wanted);
    if (n % 61 == 0) CHECK_EQUAL(reference(p, n), wanted);
  }
}

void randomPlacesAgree() {
  Generator random(2);
  const std::vector<uint8_t> bytes = random.bytes(40000);
  for (int i = 0; i < 2000; i++) {
    const size_t from = random.below(4097);
    const size_t n = random.below(35000);
    const auto start = static_cast<uint32_t>(random.next());
    CHECK_EQUAL(crc32c(start, bytes.data() + from, n), crc32c_portable(start, bytes.data() + from, n));
  }
}

void composes() {
  Generator random(3);
  const std::vector<uint8_t> bytes = random.bytes(30000);
  const uint32_t whole = crc32c(0, bytes.data(), bytes.size());
  for (int i = 0; i < 300; i++) {
    const size_t cut = random.below(bytes.size() + 1);
    CHECK_EQUAL(crc32c(crc32c(0, bytes.data(), cut), bytes.data() + cut, bytes.size() - cut), whole);
    CHECK_EQUAL(crc32c_portable(crc32c(0, bytes.data(), cut), bytes.data() + cut, bytes.size() - cut), whole);
  }
}

void copyIsCopyAndSum() {
  Generator random(4);
  const std::vector<uint8_t> from = random.bytes(100000);
  for (int i = 0; i < 500; i++) {
    const size_t at = random.below(4097);
    const size_t to = random.below(4097);
    const size_t n = i < 40 ? static_cast<size_t>(i) : random.below(90000);
    std::vector<uint8_t> copy(n + to + 16, 0xa5);
    CHECK_EQUAL(crc32c_copy(9, copy.data() + to, from.data() + at, n), crc32c_portable(9, from.data() + at, n));
    CHECK(std::memcmp(copy.data() + to, from.data() + at, n) == 0);
    for (size_t k = 0; k < to; k++) CHECK_EQUAL(int{copy[k]}, 0xa5);
    for (size_t k = to + n; k < copy.size(); k++) CHECK_EQUAL(int{copy[k]}, 0xa5);
  }
}

}  // namespace

int main() {
  knownAnswers(crc32c);
  knownAnswers(crc32c_portable);
  everyLengthAgrees();
  randomPlacesAgree();
  composes();
  copyIsCopyAndSum();
  std::cout << "hardware: " << crc32c_hardware() << std::endl;
}
