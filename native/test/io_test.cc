// File operations on a real directory: durable writes in each mode, exact counters, and what failures say.

#include "io.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <thread>

#include "check.h"

using namespace spillway;

namespace {

/** Counters of one test; `expect` names every non-zero one. */
struct Counted {
  alignas(8) double slots[kCounterSlots] = {};
  Files files{Counters(slots)};

  void expect(const std::map<int, double>& wanted) {
    for (int i = 0; i < kCounterSlots; i++) {
      const auto it = wanted.find(i);
      const double count = it == wanted.end() ? 0 : it->second;
      if (slots[i] != count) std::cerr << "counter " << i << ": ";
      CHECK_EQUAL(slots[i], count);
    }
    std::memset(slots, 0, sizeof slots);
  }
};

void checkFailure(const Result& result, int error, const std::string& syscall) {
  CHECK_EQUAL(result.error, error);
  CHECK_EQUAL(std::string(result.syscall), syscall);
}

void checkContent(const std::string& path, size_t at, const AlignedBuffer& wanted) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  std::vector<uint8_t> got(wanted.length());
  CHECK_EQUAL(::pread(fd, got.data(), got.size(), static_cast<off_t>(at)), static_cast<ssize_t>(got.size()));
  CHECK(std::memcmp(got.data(), wanted.data(), got.size()) == 0);
  ::close(fd);
}

/** @returns false where the file system has no such mode (tmpfs before Linux 6.6 refuses O_DIRECT) */
bool durableWrites(ScratchDir& dir, Mode mode) {
  Counted c;
  const std::string path = dir.file("mode" + std::to_string(static_cast<int>(mode)));
  const Opened opened = c.files.open(path, How::kCreate, mode == Mode::kDirect);
  if (mode == Mode::kDirect && opened.result.error == EINVAL) return false;
  CHECK(opened.result.ok());
  CHECK_EQUAL(::fcntl(opened.fd, F_GETFD), FD_CLOEXEC);
  struct stat status;
  ::fstat(opened.fd, &status);
  CHECK_EQUAL(status.st_mode & 0137, 0u);  // 0640, less what the umask takes

  CHECK(c.files.allocate(opened.fd, 65536).ok());
  c.expect({{kOpenat, 1}, {kFallocate, 1}});
  ::fstat(opened.fd, &status);
  CHECK_EQUAL(status.st_size, 65536);

  const AlignedBuffer bytes(8192, 0xc3);
  CHECK(c.files.durableWrite(mode, opened.fd, bytes.data(), bytes.length(), 4096).ok());
  CHECK(c.files.durableWrite(mode, opened.fd, bytes.data(), bytes.length(), 16384).ok());
  if (mode == Mode::kPortable) {
    c.expect({{kPwritev, 2}, {kFdatasync, 2}, {kBytesWritten, 16384}, {kCommitWrites, 2},
              {kCommitSyncs, 2}});
  } else {
    c.expect({{kPwritev2, 2}, {kBytesWritten, 16384}, {kCommitWrites, 2}});
  }
  checkContent(path, 4096, bytes);
  checkContent(path, 16384, bytes);

  checkFailure(c.files.durableWrite(mode, opened.fd, bytes.data(), 0, 0), EINVAL, durableCallName(mode));
  c.expect({});
  CHECK(c.files.close(opened.fd).ok());
  c.expect({{kClose, 1}});
  return true;
}

void plainOperations(ScratchDir& dir) {
  Counted c;
  const std::string path = dir.file("plain");
  const std::string moved = dir.file("moved");
  const Opened opened = c.files.open(path, How::kCreate, false);
  const AlignedBuffer bytes(1000, 0x11);
  CHECK(c.files.write(opened.fd, bytes.data(), bytes.length(), 3).ok());
  CHECK(c.files.sync(opened.fd).ok());
  c.expect({{kOpenat, 1}, {kPwrite64, 1}, {kBytesWritten, 1000}, {kFdatasync, 1}});
  CHECK(c.files.write(opened.fd, bytes.data(), 0, 3).ok());
  c.expect({});

  // A longer file is never cut by an allocation.
  CHECK(c.files.allocate(opened.fd, 10).ok());
  struct stat status;
  ::fstat(opened.fd, &status);
  CHECK_EQUAL(status.st_size, 1003);
  c.expect({{kFallocate, 1}});

  CHECK(c.files.rename(path, moved).ok());
  c.expect({{kRename, 1}, {kOpenat, 1}, {kFsync, 1}, {kClose, 1}});
  checkContent(moved, 3, bytes);

  const Opened again = c.files.open(moved, How::kWrite, false);
  CHECK(c.files.lock(opened.fd).ok());
  checkFailure(c.files.lock(again.fd), EAGAIN, "flock");
  CHECK(c.files.close(opened.fd).ok());
  CHECK(c.files.lock(again.fd).ok());
  CHECK(c.files.close(again.fd).ok());
  c.expect({{kOpenat, 1}, {kFlock, 3}, {kClose, 2}});

  CHECK(c.files.unlink(moved).ok());
  CHECK(c.files.syncDir(dir.path()).ok());
  c.expect({{kUnlink, 1}, {kOpenat, 1}, {kFsync, 1}, {kClose, 1}});
}

/** Failed calls count too: strace sees them. */
void failures(ScratchDir& dir) {
  Counted c;
  const AlignedBuffer bytes(4096);
  const std::string missing = dir.path() + "/missing";
  checkFailure(c.files.open(missing, How::kRead, false).result, ENOENT, "openat");
  checkFailure(c.files.open(missing, How::kWrite, false).result, ENOENT, "openat");
  checkFailure(c.files.open(dir.path(), How::kCreate, false).result, EEXIST, "openat");
  checkFailure(c.files.syncDir(missing), ENOENT, "openat");
  checkFailure(c.files.rename(missing, missing + "2"), ENOENT, "rename");
  checkFailure(c.files.unlink(missing), ENOENT, "unlink");
  c.expect({{kOpenat, 4}, {kRename, 1}, {kUnlink, 1}});

  const int bad = 1 << 20;
  checkFailure(c.files.close(bad), EBADF, "close");
  checkFailure(c.files.allocate(bad, 1), EBADF, "fallocate");
  checkFailure(c.files.write(bad, bytes.data(), 1, 0), EBADF, "pwrite64");
  checkFailure(c.files.durableWrite(Mode::kBuffered, bad, bytes.data(), 1, 0), EBADF, "pwritev2");
  checkFailure(c.files.durableWrite(Mode::kPortable, bad, bytes.data(), 1, 0), EBADF, "pwritev");
  checkFailure(c.files.sync(bad), EBADF, "fdatasync");
  checkFailure(c.files.lock(bad), EBADF, "flock");
  c.expect({{kClose, 1}, {kFallocate, 1}, {kPwrite64, 1}, {kPwritev2, 1},
            {kPwritev, 1}, {kFdatasync, 1}, {kFlock, 1}, {kCommitWrites, 2}});

  const Opened full = c.files.open("/dev/full", How::kWrite, false);
  checkFailure(c.files.durableWrite(Mode::kPortable, full.fd, bytes.data(), 4096, 0), ENOSPC, "pwritev");
  checkFailure(c.files.write(full.fd, bytes.data(), 4096, 0), ENOSPC, "pwrite64");
  CHECK(c.files.close(full.fd).ok());
  // A failed write is not followed by a sync.
  c.expect({{kOpenat, 1}, {kPwritev, 1}, {kPwrite64, 1}, {kCommitWrites, 1},
            {kClose, 1}});

  // Sync of something that cannot be synced: reported, called once.
  int ends[2];
  CHECK_EQUAL(::pipe(ends), 0);
  checkFailure(c.files.sync(ends[1]), EINVAL, "fdatasync");
  c.expect({{kFdatasync, 1}});
  ::close(ends[0]);
  ::close(ends[1]);
}

/** A limit on the file size cuts the first write short, as a full disk does: its rest must be tried, and fail. */
void shortWrites(ScratchDir& dir) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ::getrlimit(RLIMIT_FSIZE, &before);
  const AlignedBuffer bytes(16384, 0x77);
  Counted c;
  const Opened opened = c.files.open(dir.file("limited"), How::kCreate, false);
  const rlimit limit = {10000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const Result plain = c.files.write(opened.fd, bytes.data(), bytes.length(), 0);
  const Result buffered = c.files.durableWrite(Mode::kBuffered, opened.fd, bytes.data(), bytes.length(), 0);
  const Result portable = c.files.durableWrite(Mode::kPortable, opened.fd, bytes.data(), bytes.length(), 0);
  // Only the rule for `direct` is under test here, so the descriptor need not be: 10000 is no multiple of 512.
  const Result direct = c.files.durableWrite(Mode::kDirect, opened.fd, bytes.data(), bytes.length(), 0);
  ::setrlimit(RLIMIT_FSIZE, &before);
  checkFailure(plain, EFBIG, "pwrite64");
  checkFailure(buffered, EFBIG, "pwritev2");
  checkFailure(portable, EFBIG, "pwritev");
  checkFailure(direct, EIO, "pwritev2");
  CHECK_EQUAL(std::string(direct.reason), "short write");
  c.expect({{kOpenat, 1}, {kPwrite64, 2}, {kPwritev2, 3}, {kPwritev, 2},
            {kBytesWritten, 40000}, {kCommitWrites, 5}});
  c.files.close(opened.fd);
}

/** Two threads on one counter: none of their additions is lost. */
void countersAreAtomic() {
  alignas(8) double slots[kCounterSlots] = {};
  const Counters counters(slots);
  constexpr int kTimes = 100000;
  const auto work = [&counters] {
    for (int i = 0; i < kTimes; i++) counters.count(kClose);
  };
  std::thread other(work);
  work();
  other.join();
  CHECK_EQUAL(slots[kClose], 2.0 * kTimes);
}

}  // namespace

int main() {
  ScratchDir dir;
  CHECK(durableWrites(dir, Mode::kBuffered));
  CHECK(durableWrites(dir, Mode::kPortable));
  std::cout << "direct: " << (durableWrites(dir, Mode::kDirect) ? "yes" : "not on this file system") << std::endl;
  plainOperations(dir);
  failures(dir);
  shortWrites(dir);
  countersAreAtomic();
}
