// What the tests need of a framework: CHECK, a scratch directory, a seeded generator. A failed check prints file, line
// and both values and ends the program with 1, so that ctest shows the first wrong thing and nothing after it.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

namespace spillway {

template <typename A, typename B>
void checkEqual(const A& got, const B& wanted, const char* what, const char* file, int line) {
  if (got == wanted) return;
  std::cerr << file << ":" << line << ": " << what << " is " << got << ", wanted " << wanted << std::endl;
  std::exit(1);
}

#define CHECK(condition) ::spillway::checkEqual(static_cast<bool>(condition), true, #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(got, wanted) ::spillway::checkEqual((got), (wanted), #got, __FILE__, __LINE__)

/** A directory that goes with the test: under TMPDIR, else where ctest runs it (/tmp may be a tmpfs without O_DIRECT). */
class ScratchDir {
 public:
  ScratchDir() {
    const char* base = getenv("TMPDIR");
    std::string pattern = std::string(base == nullptr ? "." : base) + "/spillway-test-XXXXXX";
    CHECK(mkdtemp(&pattern[0]) != nullptr);
    path_ = pattern;
  }
  ~ScratchDir() {
    for (const std::string& file : files_) ::unlink(file.c_str());
    ::rmdir(path_.c_str());
  }

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) {
    files_.push_back(path_ + "/" + name);
    return files_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

/** xorshift64*: the same bytes on every machine, which the distributions of <random> do not promise. */
class Generator {
 public:
  explicit Generator(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dULL;
  }
  size_t below(size_t limit) { return static_cast<size_t>((next() >> 11) % limit); }
  std::vector<uint8_t> bytes(size_t length) {
    std::vector<uint8_t> out(length);
    for (auto& byte : out) byte = static_cast<uint8_t>(next() >> 56);
    return out;
  }

 private:
  uint64_t state_;
};

/** Memory that O_DIRECT accepts. */
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t length, uint8_t fill = 0) : length_(length) {
    CHECK_EQUAL(posix_memalign(&memory_, 4096, length), 0);
    for (size_t i = 0; i < length; i++) data()[i] = fill;
  }
  ~AlignedBuffer() { free(memory_); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  uint8_t* data() const { return static_cast<uint8_t*>(memory_); }
  size_t length() const { return length_; }

 private:
  void* memory_ = nullptr;
  size_t length_;
};

}  // namespace spillway
