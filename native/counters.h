// Counts of system calls, kept as plain doubles in memory that JavaScript shares between threads (Float64Array over a
// SharedArrayBuffer; indexes in constants.h). The owner thread and its writer thread may add to the same counter at the
// same moment, so an addition is a compare-and-swap on the 64-bit pattern. Relaxed: a count orders nothing.
#pragma once

#include <cstdint>
#include <cstring>

#include "constants.h"

namespace spillway {

static_assert(sizeof(double) == sizeof(uint64_t), "a counter is one 64-bit word");

class Counters {
 public:
  /** @param slots kCounterSlots doubles, aligned to 8, that outlive this and every running call */
  explicit Counters(double* slots) : slots_(slots) {}

  void add(int index, double amount) const {
    // std::atomic_ref is C++20; the builtin is the same instruction in GCC and clang.
    auto* word = reinterpret_cast<AliasedWord*>(slots_ + index);
    uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
    uint64_t wanted;
    do {
      double value;
      std::memcpy(&value, &seen, sizeof value);
      value += amount;
      std::memcpy(&wanted, &value, sizeof wanted);
    } while (!__atomic_compare_exchange_n(word, &seen, wanted, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  }

  void count(int index) const { add(index, 1); }

 private:
  typedef uint64_t __attribute__((may_alias)) AliasedWord;

  double* slots_;
};

}  // namespace spillway
