#!/bin/sh
# The C++ side by itself: plain, then under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
# Needs cmake and a C++17 compiler.
set -eu
cd "$(dirname "$0")/.."
for sanitizer in none address undefined thread; do
  flags=""
  [ "$sanitizer" = none ] || flags="-DSPILLWAY_SANITIZE=$sanitizer"
  cmake -S . -B "build-native/$sanitizer" $flags >/dev/null
  cmake --build "build-native/$sanitizer" -j 2 >/dev/null
  printf '== sanitizer: %s\n' "$sanitizer"
  (cd "build-native/$sanitizer" && ctest --output-on-failure)
done
