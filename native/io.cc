// The name that the linker sees must be plain pwritev2: with _FILE_OFFSET_BITS=64 (node-gyp sets it, cmake-js does not)
// glibc renames it to pwritev64v2, and a fault-injecting LD_PRELOAD library would be blind in one of the two builds.
// off_t has 64 bits here in any case.
#if defined(__LP64__)
#undef _FILE_OFFSET_BITS
#endif

#include "io.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#if defined(SPILLWAY_TEST_HOOKS)
#include <atomic>
#include <csignal>
#include <cstdlib>
#endif

namespace spillway {

static_assert(sizeof(off_t) == 8, "segments may pass 2 GiB");

struct Files::WriteCall {
  const char* name;
  int counter;
  bool repeatInterrupted;
  ssize_t (*run)(int fd, const uint8_t* bytes, size_t length, off_t position);
};

namespace {

/** Owner writes, group reads, others nothing: records are nobody else's business. */
constexpr mode_t kFileMode = 0640;

/** Smallest logical sector: an O_DIRECT write cannot go on from anywhere else. */
constexpr size_t kSectorBytes = 512;

Result failed(const char* syscall) { return {errno, syscall, nullptr}; }

ssize_t runPwrite(int fd, const uint8_t* bytes, size_t length, off_t position) {
  return ::pwrite(fd, bytes, length, position);
}

#if defined(__linux__)
iovec vectorOf(const uint8_t* bytes, size_t length) { return {const_cast<uint8_t*>(bytes), length}; }

ssize_t runPwritev(int fd, const uint8_t* bytes, size_t length, off_t position) {
  const iovec vector = vectorOf(bytes, length);
  return ::pwritev(fd, &vector, 1, position);
}
#endif

ssize_t runPwritev2(int fd, const uint8_t* bytes, size_t length, off_t position) {
#if defined(RWF_DSYNC)
  const iovec vector = vectorOf(bytes, length);
  return ::pwritev2(fd, &vector, 1, position, RWF_DSYNC);
#else
  (void)fd, (void)bytes, (void)length, (void)position;
  errno = ENOTSUP;
  return -1;
#endif
}

int syncData(int fd) {
#if defined(__APPLE__)
  return ::fcntl(fd, F_FULLFSYNC);
#else
  return ::fdatasync(fd);
#endif
}

int syncWhole(int fd) {
#if defined(__APPLE__)
  return ::fcntl(fd, F_FULLFSYNC);
#else
  return ::fsync(fd);
#endif
}

std::string directoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

#if defined(SPILLWAY_TEST_HOOKS)
// For test/proof/kills.ts, in an addon of its own (test/support/build-addon.ts), never in what ships.
// SPILLWAY_TEST_KILL_AT=17:before ends the process by SIGKILL right before the 17th call of all its threads, `17:after`
// right after it, `17:torn` after the first half of it where it is a write: a kill between two pages leaves that.
struct KillAt {
  long call = 0;
  char when = 0;

  KillAt() {
    const char* text = std::getenv("SPILLWAY_TEST_KILL_AT");
    char* end = nullptr;
    if (text != nullptr) call = std::strtol(text, &end, 10);
    if (end != nullptr && *end == ':') when = end[1];
  }
};
const KillAt killAt;
std::atomic<long> callsBegun{0};
thread_local bool tearing = false;

class AroundCall {
 public:
  AroundCall() {
    if (due_ && killAt.when == 'b') die();
    tearing = due_ && killAt.when == 't';
  }
  ~AroundCall() {
    if (due_) die();
  }
  static size_t lengthOf(size_t length) {
    return tearing && length > kSectorBytes ? length / 2 / kSectorBytes * kSectorBytes : length;
  }

 private:
  static void die() { ::kill(::getpid(), SIGKILL); }

  const bool due_ = ++callsBegun == killAt.call;
};
#else
struct AroundCall {
  ~AroundCall() {}  // not trivial, or compilers call its only use unused
  static size_t lengthOf(size_t length) { return length; }
};
#endif

}  // namespace

/** Makes a system call and counts it: each counted call is made here. */
template <typename Call>
auto Files::counted(int counter, Call call) const {
  const AroundCall around;
  const auto answer = call();
  counters_.count(counter);
  return answer;
}

const char* durableCallName(Mode mode) {
#if defined(__linux__)
  return mode == Mode::kPortable ? "pwritev" : "pwritev2";
#else
  return mode == Mode::kPortable ? "pwrite64" : "pwritev2";
#endif
}

Opened Files::openCounted(const char* path, int flags) const {
  int fd;
  do {
    fd = counted(kOpenat, [&] { return ::open(path, flags | O_CLOEXEC, kFileMode); });
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return {failed("openat"), -1};
  return {Result{}, fd};
}

Opened Files::open(const std::string& path, How how, bool direct) const {
  int flags = how == How::kRead ? O_RDONLY : O_RDWR;
  if (how == How::kCreate) flags |= O_CREAT | O_EXCL;
  if (direct) {
#if defined(O_DIRECT)
    flags |= O_DIRECT;
#else
    return {{ENOTSUP, "openat", "this system has no O_DIRECT"}, -1};
#endif
  }
  return openCounted(path.c_str(), flags);
}

Result Files::close(int fd) const {
  const int status = counted(kClose, [&] { return ::close(fd); });
  // Linux has released the descriptor when close is interrupted: a second close could hit another thread's new file.
  if (status != 0 && errno != EINTR) return failed("close");
  return {};
}

Result Files::allocate(int fd, int64_t bytes) const {
#if defined(__linux__)
  int status;
  do {
    status = counted(kFallocate, [&] { return ::fallocate(fd, 0, 0, bytes); });
  } while (status != 0 && errno == EINTR);
  if (status == 0) return {};
  if (errno != EOPNOTSUPP) return failed("fallocate");
#endif
  // ftruncate alone would cut a longer file. lseek has no counter because it changes nothing: every read and write here
  // names its position. Not fstat: since glibc 2.33 that is a symbol older systems lack.
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size < 0) return failed("lseek");
  if (size >= bytes) return {};
  const int grown = counted(kFtruncate, [&] { return ::ftruncate(fd, bytes); });
  return grown == 0 ? Result{} : failed("ftruncate");
}

Result Files::writeAll(const WriteCall& call, size_t unitBytes, bool commit, int fd, const uint8_t* bytes, size_t length,
                       int64_t position) const {
  size_t done = 0;
  while (done < length) {
    const ssize_t n = counted(call.counter, [&] {
      return call.run(fd, bytes + done, AroundCall::lengthOf(length - done), position + static_cast<off_t>(done));
    });
    if (commit) counters_.count(kCommitWrites);
    if (n < 0) {
      if (errno == EINTR && call.repeatInterrupted) continue;
      return failed(call.name);
    }
    if (n == 0) return {EIO, call.name, "the write made no progress"};
    counters_.add(kBytesWritten, static_cast<double>(n));
    done += static_cast<size_t>(n);
    if (done < length && static_cast<size_t>(n) % unitBytes != 0) return {EIO, call.name, "short write"};
  }
  return {};
}

Result Files::write(int fd, const uint8_t* bytes, size_t length, int64_t position) const {
  static constexpr WriteCall kPlain = {"pwrite64", kPwrite64, true, runPwrite};
  return writeAll(kPlain, 1, false, fd, bytes, length, position);
}

Result Files::durableWrite(Mode mode, int fd, const uint8_t* bytes, size_t length, int64_t position) const {
  static constexpr WriteCall kDurable = {"pwritev2", kPwritev2, false, runPwritev2};
#if defined(__linux__)
  static constexpr WriteCall kPortable = {"pwritev", kPwritev, true, runPwritev};
#else
  // macOS knows pwritev only since version 11, and one buffer needs no vector.
  static constexpr WriteCall kPortable = {"pwrite64", kPwrite64, true, runPwrite};
#endif
  if (length == 0) return {EINVAL, durableCallName(mode), "nothing to write"};
  if (mode != Mode::kPortable) {
    return writeAll(kDurable, mode == Mode::kDirect ? kSectorBytes : 1, true, fd, bytes, length, position);
  }
  const Result written = writeAll(kPortable, 1, true, fd, bytes, length, position);
  if (!written.ok()) return written;
  counters_.count(kCommitSyncs);
  return sync(fd);
}

Result Files::sync(int fd) const {
  const int status = counted(kFdatasync, [&] { return syncData(fd); });
  return status == 0 ? Result{} : failed("fdatasync");
}

Result Files::syncDir(const std::string& path) const {
  const Opened directory = openCounted(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory.result.ok()) return directory.result;
  const int status = counted(kFsync, [&] { return syncWhole(directory.fd); });
  const Result synced = status == 0 ? Result{} : failed("fsync");
  const Result closed = close(directory.fd);
  return synced.ok() ? closed : synced;
}

Result Files::rename(const std::string& from, const std::string& to) const {
  const int status = counted(kRename, [&] { return ::rename(from.c_str(), to.c_str()); });
  if (status != 0) return failed("rename");
  return syncDir(directoryOf(to));
}

Result Files::unlink(const std::string& path) const {
  const int status = counted(kUnlink, [&] { return ::unlink(path.c_str()); });
  return status == 0 ? Result{} : failed("unlink");
}

Result Files::lock(int fd) const {
  const int status = counted(kFlock, [&] { return ::flock(fd, LOCK_EX | LOCK_NB); });
  return status == 0 ? Result{} : failed("flock");
}

}  // namespace spillway
