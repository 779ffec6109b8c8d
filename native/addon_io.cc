// The class Io as JavaScript sees it: N-API over io.h and writer.h. It keeps buffers alive while they are written.
//
// Promises:
//  - a wrong argument and a failed call throw as addon_args.h says, a misused Io an Error with code ERR_INVALID_STATE;
//  - an Io works on descriptors that it opened and on no other; close waits for the outstanding writes of its descriptor;
//  - Io::shutdown is the one cleanup: destroy(), garbage collection and the end of the environment (worker.terminate()
//    and process.exit() included) all go through it. It waits for the write under way, then closes, which frees locks.
//
// Buffers may be views over a SharedArrayBuffer. Of a submitted one only the view is held: a transferred or resized
// ArrayBuffer under it would be written from freed memory, so batches live in buffers that are neither.

#include "addon_io.h"

#include <napi.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <system_error>

#include "addon_args.h"
#include "constants.h"
#include "io.h"
#include "writer.h"

namespace spillway {
namespace {

[[noreturn]] void refuseState(Napi::Env env, const std::string& sentence) {
  Napi::Error error = Napi::Error::New(env, sentence);
  error.Set("code", Napi::String::New(env, "ERR_INVALID_STATE"));
  throw error;
}

std::string pathAt(Info info, size_t i, const char* name) {
  if (!info[i].IsString()) refuse(info.Env(), std::string(name) + " must be a string.");
  std::string path = info[i].As<Napi::String>().Utf8Value();
  // The system would read only what stands before the zero: another file than the one that was meant.
  if (path.empty() || path.find('\0') != std::string::npos) {
    refuse(info.Env(), std::string(name) + " must not be empty or contain a zero byte.");
  }
  return path;
}

double* countersAt(Info info, size_t i) {
  const auto counters = doublesAt(info, i, "counters");
  if (counters.length < kCounterSlots) {
    refuse(info.Env(), "counters must have at least " + std::to_string(kCounterSlots) + " slots.");
  }
  return counters.data;
}

class Io : public Napi::ObjectWrap<Io>, private Performer {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Io",
                       {
                           InstanceMethod<&Io::open>("open"),
                           InstanceMethod<&Io::close>("close"),
                           InstanceMethod<&Io::allocate>("allocate"),
                           InstanceMethod<&Io::write>("write"),
                           InstanceMethod<&Io::durableWrite>("durableWrite"),
                           InstanceMethod<&Io::submit>("submit"),
                           InstanceMethod<&Io::settle>("settle"),
                           InstanceMethod<&Io::outstanding>("outstanding"),
                           InstanceMethod<&Io::sync>("sync"),
                           InstanceMethod<&Io::syncDir>("syncDir"),
                           InstanceMethod<&Io::rename>("rename"),
                           InstanceMethod<&Io::unlink>("unlink"),
                           InstanceMethod<&Io::lock>("lock"),
                           InstanceMethod<&Io::destroy>("destroy"),
                       });
  }

  explicit Io(Info info)
      : Napi::ObjectWrap<Io>(info),
        files_(Counters(countersAt(info, 0))),
        countersAlive_(Napi::Persistent(info[0].As<Napi::Object>())),
        writer_(new Writer(*this)) {
    napi_add_env_cleanup_hook(info.Env(), atEnvironmentEnd, this);
  }

  ~Io() override { shutdown(); }

 private:
  struct Submitted {
    int fd;
    std::string path;
    Napi::ObjectReference bytes;
  };

  static void atEnvironmentEnd(void* self) { static_cast<Io*>(self)->shutdown(); }

  void shutdown() {
    if (writer_ == nullptr) return;
    writer_.reset();
    submitted_.clear();
    for (const auto& [fd, path] : paths_) files_.close(fd);
    paths_.clear();
    countersAlive_.Reset();
    napi_remove_env_cleanup_hook(Env(), atEnvironmentEnd, this);
  }

  Result perform(const Job& job) override {
    return files_.durableWrite(job.mode, job.fd, job.bytes, job.length, job.position);
  }

  void assertAlive(Info info) const {
    if (writer_ == nullptr) refuseState(info.Env(), "This Io was destroyed.");
  }

  /** A descriptor that this Io opened; `syscall` is the call that is about to be made on it. */
  int descriptorAt(Info info, size_t i, const char* syscall) const {
    const int fd = static_cast<int>(integerAt(info, i, "fd", std::numeric_limits<int>::max()));
    if (paths_.count(fd) == 0) throwFailed(info.Env(), {EBADF, syscall, nullptr});
    return fd;
  }

  static Mode modeAt(Info info, size_t i) { return static_cast<Mode>(static_cast<int>(integerAt(info, i, "mode", 2))); }

  static int64_t positionAt(Info info, size_t i) {
    return static_cast<int64_t>(integerAt(info, i, "position", kMaxSafeInteger));
  }

  /** mode, fd, bytes, position: what durableWrite and submit have in common. */
  Job jobOf(Info info) const {
    const Mode mode = modeAt(info, 0);
    const int fd = descriptorAt(info, 1, durableCallName(mode));
    const auto bytes = bytesAt(info, 2, "bytes");
    if (bytes.length == 0) refuse(info.Env(), "bytes must not be empty.");
    return {mode, fd, bytes.data, bytes.length, positionAt(info, 3)};
  }

  Napi::Value open(Info info) {
    assertAlive(info);
    const std::string path = pathAt(info, 0, "path");
    const std::string name = info[1].IsString() ? info[1].As<Napi::String>().Utf8Value() : "";
    How how;
    if (name == "read") {
      how = How::kRead;
    } else if (name == "write") {
      how = How::kWrite;
    } else if (name == "create") {
      how = How::kCreate;
    } else {
      refuse(info.Env(), "how must be 'read', 'write' or 'create'.");
    }
    if (!info[2].IsBoolean()) refuse(info.Env(), "direct must be a boolean.");
    const Opened opened = files_.open(path, how, info[2].As<Napi::Boolean>().Value());
    throwFailed(info.Env(), opened.result, path);
    paths_[opened.fd] = path;
    return Napi::Number::New(info.Env(), opened.fd);
  }

  void close(Info info) {
    assertAlive(info);
    const int fd = descriptorAt(info, 0, "close");
    const std::string path = paths_[fd];
    // The number could come back as another file before the writer thread uses it. Waiting rather than EBUSY: a
    // poisoned log closes without settling what is left.
    for (const Submitted& job : submitted_) {
      if (job.fd == fd) writer_->waitUntilIdle();
    }
    paths_.erase(fd);
    throwFailed(info.Env(), files_.close(fd), path);
  }

  void allocate(Info info) {
    assertAlive(info);
    const int fd = descriptorAt(info, 0, "fallocate");
    const auto bytes = static_cast<int64_t>(integerAt(info, 1, "bytes", kMaxSafeInteger));
    throwFailed(info.Env(), files_.allocate(fd, bytes), paths_[fd]);
  }

  void write(Info info) {
    assertAlive(info);
    const int fd = descriptorAt(info, 0, "pwrite64");
    const auto bytes = bytesAt(info, 1, "bytes");
    throwFailed(info.Env(), files_.write(fd, bytes.data, bytes.length, positionAt(info, 2)), paths_[fd]);
  }

  void durableWrite(Info info) {
    assertAlive(info);
    const Job job = jobOf(info);
    throwFailed(info.Env(), perform(job), paths_[job.fd]);
  }

  Napi::Value submit(Info info) {
    assertAlive(info);
    const Job job = jobOf(info);
    if (writer_->outstanding() == Writer::kDepth) return Napi::Boolean::New(info.Env(), false);
    submitted_.push_back({job.fd, paths_[job.fd], Napi::Persistent(info[2].As<Napi::Object>())});
    try {
      writer_->submit(job);
    } catch (const std::system_error& error) {
      submitted_.pop_back();
      throwFailed(info.Env(), {error.code().value(), "pthread_create", nullptr});
    }
    return Napi::Boolean::New(info.Env(), true);
  }

  void settle(Info info) {
    assertAlive(info);
    if (submitted_.empty()) refuseState(info.Env(), "No write is outstanding: there is nothing to settle.");
    const Result result = writer_->settle();
    const std::string path = submitted_.front().path;
    submitted_.pop_front();
    throwFailed(info.Env(), result, path);
  }

  Napi::Value outstanding(Info info) {
    return Napi::Number::New(info.Env(), static_cast<double>(submitted_.size()));
  }

  void sync(Info info) {
    assertAlive(info);
    const int fd = descriptorAt(info, 0, "fdatasync");
    throwFailed(info.Env(), files_.sync(fd), paths_[fd]);
  }

  void syncDir(Info info) {
    assertAlive(info);
    const std::string path = pathAt(info, 0, "path");
    throwFailed(info.Env(), files_.syncDir(path), path);
  }

  void rename(Info info) {
    assertAlive(info);
    const std::string from = pathAt(info, 0, "from");
    const std::string to = pathAt(info, 1, "to");
    throwFailed(info.Env(), files_.rename(from, to), from);
  }

  void unlink(Info info) {
    assertAlive(info);
    const std::string path = pathAt(info, 0, "path");
    throwFailed(info.Env(), files_.unlink(path), path);
  }

  void lock(Info info) {
    assertAlive(info);
    const int fd = descriptorAt(info, 0, "flock");
    throwFailed(info.Env(), files_.lock(fd), paths_[fd]);
  }

  void destroy(Info) { shutdown(); }

  Files files_;
  Napi::ObjectReference countersAlive_;
  /** Not unordered_map: that one needs the libstdc++ of GCC 11, and there are a dozen files at most. */
  std::map<int, std::string> paths_;
  /** Oldest first, as the writer has them; a reference keeps the bytes from being collected. */
  std::list<Submitted> submitted_;
  /** Null once shut down. */
  std::unique_ptr<Writer> writer_;
};

}  // namespace

Napi::Function defineIo(Napi::Env env) { return Io::define(env); }

}  // namespace spillway
