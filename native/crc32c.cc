// One crc32 instruction takes 8 bytes and 3 cycles, but the next may start after 1: a single chain of them leaves two
// thirds of the unit idle. So three neighbouring lanes of a triple are summed side by side and joined at the end, after
// Mark Adler's crc32c.c:
//
//      crc ─▶ [ lane 0: N bytes ][ lane 1: N bytes ][ lane 2: N bytes ]
//      joined = shift(shift(crc0) ^ crc1) ^ crc2        shift(x) = x followed by N zero bytes, from a 4 KiB table
//
// All tables are computed by the compiler, so there is no initialisation that two threads could race for.
// Rejected: folding with (V)PCLMULQDQ. It beats three lanes only on data that is already in L1, and doubles this file.

#include "crc32c.h"

#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define SPILLWAY_CRC_X86 1
#elif defined(__aarch64__) && defined(__GNUC__)
#define SPILLWAY_CRC_ARM 1
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

namespace spillway {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected: bit 31 is the coefficient of x^0

constexpr uint32_t timesX(uint32_t a) { return (a & 1) != 0 ? (a >> 1) ^ kPolynomial : a >> 1; }

struct SliceTables {
  uint32_t of[8][256];
  constexpr SliceTables() : of() {
    for (uint32_t n = 0; n < 256; n++) {
      uint32_t crc = n;
      for (int bit = 0; bit < 8; bit++) crc = timesX(crc);
      of[0][n] = crc;
    }
    for (int k = 1; k < 8; k++) {
      for (uint32_t n = 0; n < 256; n++) of[k][n] = (of[k - 1][n] >> 8) ^ of[0][of[k - 1][n] & 255];
    }
  }
};
constexpr SliceTables kSlices;

inline uint32_t littleEndian32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

#if defined(SPILLWAY_CRC_X86) || defined(SPILLWAY_CRC_ARM)

/** a·b modulo the polynomial. */
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1, b = timesX(b)) {
    if ((a & bit) != 0) product ^= b;
  }
  return product;
}

/** x^exponent modulo the polynomial. */
constexpr uint32_t powerOfX(uint64_t exponent) {
  uint32_t result = 1u << 31;
  for (uint32_t square = 1u << 30; exponent != 0; exponent >>= 1, square = multiply(square, square)) {
    if ((exponent & 1) != 0) result = multiply(result, square);
  }
  return result;
}

/** Lane lengths: a long triple is one block of crc32c_copy; a short one keeps records of 1 KiB on three lanes too. */
constexpr size_t kLongLane = 4096;
constexpr size_t kShortLane = 256;

template <size_t kLaneBytes>
struct ShiftTables {
  uint32_t of[4][256];
  constexpr ShiftTables() : of() {
    const uint32_t power = powerOfX(uint64_t{8} * kLaneBytes);
    for (uint32_t n = 0; n < 256; n++) {
      for (int k = 0; k < 4; k++) of[k][n] = multiply(power, n << (8 * k));
    }
  }
};
template <size_t kLaneBytes>
constexpr ShiftTables<kLaneBytes> kShift;

/** The checksum after kLaneBytes further zero bytes. */
template <size_t kLaneBytes>
inline uint32_t shift(uint32_t crc) {
  const auto& table = kShift<kLaneBytes>.of;
  return table[0][crc & 255] ^ table[1][(crc >> 8) & 255] ^ table[2][(crc >> 16) & 255] ^ table[3][crc >> 24];
}

// Assembler rather than intrinsics: those need target attributes whose names GCC and clang, and versions of each, spell
// differently; and with them on a function, nothing of it may be inlined elsewhere.
#if defined(SPILLWAY_CRC_X86)
inline uint64_t step8(uint64_t crc, uint64_t word) {
  asm("crc32q %1, %0" : "+r"(crc) : "r"(word));
  return crc;
}
inline uint64_t step1(uint64_t crc, uint8_t byte) {
  auto low = static_cast<uint32_t>(crc);
  asm("crc32b %1, %0" : "+r"(low) : "q"(byte));
  return low;
}
bool processorHasCrc() { return __builtin_cpu_supports("sse4.2") != 0; }
#else
inline uint64_t step8(uint64_t crc, uint64_t word) {
  auto low = static_cast<uint32_t>(crc);
  asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(low) : "r"(word));
  return low;
}
inline uint64_t step1(uint64_t crc, uint8_t byte) {
  auto low = static_cast<uint32_t>(crc);
  asm(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(low) : "r"(static_cast<uint32_t>(byte)));
  return low;
}
bool processorHasCrc() {
#if defined(__APPLE__)
  return true;  // every Apple processor of this architecture
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#else
  return false;
#endif
}
#endif

inline uint64_t hostWord(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

template <size_t kLaneBytes>
inline uint32_t triple(uint32_t crc, const uint8_t* p) {
  uint64_t lane0 = crc;
  uint64_t lane1 = 0;
  uint64_t lane2 = 0;
  for (const uint8_t* end = p + kLaneBytes; p < end; p += 8) {
    lane0 = step8(lane0, hostWord(p));
    lane1 = step8(lane1, hostWord(p + kLaneBytes));
    lane2 = step8(lane2, hostWord(p + 2 * kLaneBytes));
  }
  const uint32_t joined = shift<kLaneBytes>(static_cast<uint32_t>(lane0)) ^ static_cast<uint32_t>(lane1);
  return shift<kLaneBytes>(joined) ^ static_cast<uint32_t>(lane2);
}

uint32_t crc32cHardware(uint32_t crc, const void* bytes, size_t length) {
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  uint32_t c = ~crc;
  for (; length >= 3 * kLongLane; p += 3 * kLongLane, length -= 3 * kLongLane) c = triple<kLongLane>(c, p);
  for (; length >= 3 * kShortLane; p += 3 * kShortLane, length -= 3 * kShortLane) c = triple<kShortLane>(c, p);
  uint64_t tail = c;
  for (; length >= 8; p += 8, length -= 8) tail = step8(tail, hostWord(p));
  for (; length > 0; p++, length--) tail = step1(tail, *p);
  return ~static_cast<uint32_t>(tail);
}

#else
bool processorHasCrc() { return false; }
uint32_t crc32cHardware(uint32_t crc, const void* bytes, size_t length) { return crc32c_portable(crc, bytes, length); }
#endif

using Function = uint32_t (*)(uint32_t, const void*, size_t);

Function chosen() {
  static const Function function = processorHasCrc() ? crc32cHardware : crc32c_portable;
  return function;
}

/** Bytes copied before they are summed: source and copy of one block together stay within 32 KiB of L1. */
constexpr size_t kCopyBlock = 12288;

}  // namespace

uint32_t crc32c_portable(uint32_t crc, const void* bytes, size_t length) {
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  const auto& t = kSlices.of;
  uint32_t c = ~crc;
  for (; length >= 8; p += 8, length -= 8) {
    const uint32_t low = c ^ littleEndian32(p);
    const uint32_t high = littleEndian32(p + 4);
    c = t[7][low & 255] ^ t[6][(low >> 8) & 255] ^ t[5][(low >> 16) & 255] ^ t[4][low >> 24] ^  //
        t[3][high & 255] ^ t[2][(high >> 8) & 255] ^ t[1][(high >> 16) & 255] ^ t[0][high >> 24];
  }
  for (; length > 0; p++, length--) c = (c >> 8) ^ t[0][(c ^ *p) & 255];
  return ~c;
}

uint32_t crc32c(uint32_t crc, const void* bytes, size_t length) { return chosen()(crc, bytes, length); }

uint32_t crc32c_copy(uint32_t crc, void* to, const void* from, size_t length) {
  const Function sum = chosen();
  uint8_t* out = static_cast<uint8_t*>(to);
  const uint8_t* in = static_cast<const uint8_t*>(from);
  while (length > 0) {
    const size_t n = length < kCopyBlock ? length : kCopyBlock;
    std::memcpy(out, in, n);
    crc = sum(crc, out, n);
    out += n;
    in += n;
    length -= n;
  }
  return crc;
}

bool crc32c_hardware() { return processorHasCrc(); }

}  // namespace spillway
