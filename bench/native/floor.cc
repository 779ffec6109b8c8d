// The floor of bench:append and bench:latency: durable batches in a plain loop, and nothing else.
//
//   floor mode=direct|buffered|portable|record file=F fileBytes=N batchBytes=N batches=N
//
// direct    O_DIRECT, pwritev2(RWF_DSYNC) from a 4096-aligned buffer; batchBytes rounded up to 4096
// buffered  pwritev2(RWF_DSYNC) through the page cache
// portable  pwritev, then fdatasync
// record    the classic: append with write, then fdatasync; the file starts empty and grows
//
// Every batch is other bytes: the loop goes round in 64 MiB of random data (sourceBytes=N to change), as any program
// that has something to say writes memory it has not just written. A loop that writes one and the same buffer for ever
// keeps it in the cache of the core that serves the disk, and measures a third more than any real data can reach.
//
// The first three go round in a file that is preallocated and filled with zeros once, before the clock starts, so that
// no durable write changes file metadata. One JSON line on stdout; what fails is named on stderr, exit 1.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr size_t kBlockBytes = 4096;
constexpr size_t kFillBytes = 1 << 20;
constexpr size_t kSourceBytes = 64 << 20;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

[[noreturn]] void refuse(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

size_t roundUp(size_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

char* aligned(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, kBlockBytes, std::max(bytes, kBlockBytes)) != 0) refuse("no memory");
  return static_cast<char*>(p);
}

/** Bytes that no layer below can compress or recognise as zeros. xorshift64. */
void fillRandom(char* data, size_t bytes) {
  uint64_t x = 88172645463325252ull;
  for (size_t i = 0; i < bytes; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    data[i] = static_cast<char>(x);
  }
}

/** Makes the file, or finds it made: its size is set last, so a file of the full size is a filled one. */
void prepare(const std::string& path, size_t fileBytes) {
  struct stat st {};
  if (stat(path.c_str(), &st) == 0 && static_cast<size_t>(st.st_size) == fileBytes) return;
  const std::string temporary = path + ".tmp";
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0640);
  if (fd < 0) fail("open " + temporary);
  if (const int error = posix_fallocate(fd, 0, static_cast<off_t>(fileBytes)); error != 0) {
    errno = error;
    fail("posix_fallocate");
  }
  std::vector<char> zeros(kFillBytes, 0);
  for (size_t at = 0; at < fileBytes;) {
    const ssize_t n = pwrite(fd, zeros.data(), std::min(zeros.size(), fileBytes - at), static_cast<off_t>(at));
    if (n <= 0) fail("pwrite");
    at += static_cast<size_t>(n);
  }
  if (fsync(fd) != 0) fail("fsync");
  close(fd);
  if (rename(temporary.c_str(), path.c_str()) != 0) fail("rename");
}

void whole(ssize_t written, size_t bytes, const char* call) {
  if (written < 0) fail(call);
  if (static_cast<size_t>(written) != bytes) refuse(std::string(call) + ": short write");
}

double quantileUs(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 0;
  const auto rank = static_cast<size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5);
  return sorted[rank];
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> args;
  for (int i = 1; i < argc; i++) {
    const std::string arg = argv[i];
    const size_t eq = arg.find('=');
    if (eq == std::string::npos) refuse("expected key=value, got " + arg);
    args[arg.substr(0, eq)] = arg.substr(eq + 1);
  }
  for (const char* key : {"mode", "file", "fileBytes", "batchBytes", "batches"}) {
    if (args.count(key) == 0) refuse(std::string("missing ") + key + "=");
  }
  const std::string mode = args["mode"];
  const std::string path = args["file"];
  const size_t fileBytes = roundUp(std::stoull(args["fileBytes"]));
  const size_t batches = std::stoull(args["batches"]);
  const bool direct = mode == "direct";
  const bool record = mode == "record";
  if (!direct && !record && mode != "buffered" && mode != "portable") refuse("unknown mode " + mode);
  const size_t batchBytes = direct ? roundUp(std::stoull(args["batchBytes"])) : std::stoull(args["batchBytes"]);
  if (batchBytes == 0) refuse("batchBytes: expected at least 1");
  if (!record && batchBytes > fileBytes) refuse("a batch is larger than the file");

  if (!record) prepare(path, fileBytes);
  const int flags = record ? O_WRONLY | O_CREAT | O_TRUNC | O_APPEND : direct ? O_WRONLY | O_DIRECT : O_WRONLY;
  // Only preparing: must work where O_DIRECT does not.
  if (batches == 0) {
    std::printf("{\"seconds\":0,\"bytes\":0,\"batches\":0,\"p50Us\":0,\"p99Us\":0}\n");
    return 0;
  }
  const int fd = open(path.c_str(), flags, 0640);
  if (fd < 0) fail("open " + path);
  const size_t wanted = args.count("sourceBytes") != 0 ? std::stoull(args["sourceBytes"]) : kSourceBytes;
  const size_t sources = std::max<size_t>(1, wanted / roundUp(batchBytes));
  char* source = aligned(sources * roundUp(batchBytes));
  fillRandom(source, sources * roundUp(batchBytes));

  using Clock = std::chrono::steady_clock;
  std::vector<double> us;
  us.reserve(batches);
  size_t position = 0;
  const auto started = Clock::now();
  auto before = started;
  for (size_t i = 0; i < batches; i++) {
    char* data = source + i % sources * roundUp(batchBytes);
    iovec part{data, batchBytes};
    if (position + batchBytes > fileBytes) position = 0;
    const auto at = static_cast<off_t>(position);
    if (record) {
      whole(write(fd, data, batchBytes), batchBytes, "write");
      if (fdatasync(fd) != 0) fail("fdatasync");
    } else if (mode == "portable") {
      whole(pwritev(fd, &part, 1, at), batchBytes, "pwritev");
      if (fdatasync(fd) != 0) fail("fdatasync");
    } else {
      whole(pwritev2(fd, &part, 1, at, RWF_DSYNC), batchBytes, "pwritev2");
    }
    position += batchBytes;
    const auto now = Clock::now();
    us.push_back(std::chrono::duration<double, std::micro>(now - before).count());
    before = now;
  }
  const double seconds = std::chrono::duration<double>(before - started).count();
  close(fd);
  if (record) unlink(path.c_str());
  std::sort(us.begin(), us.end());
  std::printf("{\"seconds\":%.9f,\"bytes\":%zu,\"batches\":%zu,\"p50Us\":%.2f,\"p99Us\":%.2f}\n", seconds, batches * batchBytes,
              batches, quantileUs(us, 0.5), quantileUs(us, 0.99));
  return 0;
}
