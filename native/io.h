// File operations that decide durability. They say what happened and decide nothing: no policy, no N-API, no
// allocation beyond a path, no exceptions.
//
// Promises:
//  - a failure carries errno and the call that failed, named as strace names it;
//  - every call of a counted kind (constants.h) is counted where it is made, failed and repeated ones too;
//  - a partial write is completed; a write that makes no progress fails with EIO;
//  - EINTR repeats an open, an allocation or a plain write. It never repeats what syncs (fdatasync, fsync, pwritev2 with
//    RWF_DSYNC): after a failed sync the kernel may have dropped the dirty pages, and the next one would report success;
//  - all calls are safe from several threads at once. Closing a descriptor that another thread writes to is not.
//
// Elsewhere than on Linux, modes that do not exist answer ENOTSUP. On macOS a sync is F_FULLFSYNC: fsync there stops at
// the drive's own cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "counters.h"

namespace spillway {

enum class How { kRead, kWrite, kCreate };

enum class Mode { kDirect = 0, kBuffered = 1, kPortable = 2 };

struct Result {
  int error = 0;
  const char* syscall = nullptr;
  /** Set where errno alone would mislead. */
  const char* reason = nullptr;

  bool ok() const { return error == 0; }
};

struct Opened {
  Result result;
  int fd = -1;
};

/** The call that a durable write of this mode begins with. */
const char* durableCallName(Mode mode);

class Files {
 public:
  explicit Files(Counters counters) : counters_(counters) {}

  /** kWrite and kCreate also read. kCreate fails where the path exists. */
  Opened open(const std::string& path, How how, bool direct) const;
  Result close(int fd) const;
  /** Reserves blocks and grows the file to `bytes`; where the file system cannot reserve, it only grows. Never shrinks. */
  Result allocate(int fd, int64_t bytes) const;
  /** Not durable before `sync`. */
  Result write(int fd, const uint8_t* bytes, size_t length, int64_t position) const;
  /** On stable storage when it returns success. `length` 0 is EINVAL: there would be nothing to make durable. */
  Result durableWrite(Mode mode, int fd, const uint8_t* bytes, size_t length, int64_t position) const;
  Result sync(int fd) const;
  Result syncDir(const std::string& path) const;
  /** Followed by a sync of the directory of `to`: the new name is durable on success. */
  Result rename(const std::string& from, const std::string& to) const;
  /** Not durable before `syncDir`. */
  Result unlink(const std::string& path) const;
  /** Exclusive and at once, or EAGAIN. */
  Result lock(int fd) const;

 private:
  struct WriteCall;
  Result writeAll(const WriteCall& call, size_t unitBytes, bool commit, int fd, const uint8_t* bytes, size_t length,
                  int64_t position) const;
  Opened openCounted(const char* path, int flags) const;
  template <typename Call>
  auto counted(int counter, Call call) const;

  Counters counters_;
};

}  // namespace spillway
