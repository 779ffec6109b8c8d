// The addon as JavaScript sees it (src/platform/native.ts declares the same shape). The only file that knows N-API: it
// checks arguments, turns results into exceptions and keeps buffers alive; the work is done one floor below.
//
// Promises:
//  - a wrong argument throws a TypeError of one sentence with code ERR_INVALID_ARG, before anything is done;
//  - a failed call throws an Error with code, errno, syscall and, where known, path; a misused Io ERR_INVALID_STATE;
//  - an Io works on descriptors that it opened and on no other; close waits for the outstanding writes of its descriptor;
//  - no state is shared between environments: every worker thread loads its own;
//  - Io::shutdown is the one cleanup: destroy(), garbage collection and the end of the environment (worker.terminate()
//    and process.exit() included) all go through it. It waits for the write under way, then closes, which frees locks.
//
// Buffers may be views over a SharedArrayBuffer. Of a submitted one only the view is held: a transferred or resized
// ArrayBuffer under it would be written from freed memory, so batches live in buffers that are neither.

#include <napi.h>
#include <sys/socket.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "batch.h"
#include "constants.h"
#include "crc32c.h"
#include "errors.h"
#include "frames.h"
#include "io.h"
#include "writer.h"

namespace spillway {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

using Info = const Napi::CallbackInfo&;

[[noreturn]] void refuse(Napi::Env env, const std::string& sentence) {
  Napi::TypeError error = Napi::TypeError::New(env, sentence);
  error.Set("code", Napi::String::New(env, "ERR_INVALID_ARG"));
  throw error;
}

[[noreturn]] void refuseState(Napi::Env env, const std::string& sentence) {
  Napi::Error error = Napi::Error::New(env, sentence);
  error.Set("code", Napi::String::New(env, "ERR_INVALID_STATE"));
  throw error;
}

void throwFailed(Napi::Env env, const Result& result, const std::string& path = "") {
  if (result.ok()) return;
  const char* code = errorName(result.error);
  const char* text = result.reason != nullptr ? result.reason : errorText(result.error);
  Napi::Error error = Napi::Error::New(env, std::string(result.syscall) + ": " + text + " (" + code + ")");
  error.Set("code", Napi::String::New(env, code));
  error.Set("errno", Napi::Number::New(env, result.error));
  error.Set("syscall", Napi::String::New(env, result.syscall));
  if (!path.empty()) error.Set("path", Napi::String::New(env, path));
  throw error;
}

// ── Arguments ──────────────────────────────────────────────────────────────────────────────────────────────────────

template <typename Element>
struct View {
  Element* data;
  size_t length;
};

/** Asks for data and length alone: the ArrayBuffer of a view over shared memory is not one that N-API knows. */
template <typename Element>
View<Element> view(Napi::Env env, napi_value value, napi_typedarray_type wanted, const std::string& complaint) {
  bool isTypedArray = false;
  if (napi_is_typedarray(env, value, &isTypedArray) != napi_ok || !isTypedArray) refuse(env, complaint);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok || type != wanted) {
    refuse(env, complaint);
  }
  return {static_cast<Element*>(data), length};
}

View<uint8_t> bytesAt(Info info, size_t i, const char* name) {
  return view<uint8_t>(info.Env(), info[i], napi_uint8_array, std::string(name) + " must be a Uint8Array.");
}

View<double> doublesAt(Info info, size_t i, const char* name) {
  return view<double>(info.Env(), info[i], napi_float64_array, std::string(name) + " must be a Float64Array.");
}

bool isIntegerUpTo(double number, double max) { return number >= 0 && number <= max && std::floor(number) == number; }

double integerAt(Info info, size_t i, const char* name, double max) {
  const double number = info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1;
  if (!isIntegerUpTo(number, max)) {
    refuse(info.Env(), std::string(name) + " must be an integer from 0 to " + std::to_string(static_cast<int64_t>(max)) + ".");
  }
  return number;
}

uint32_t crcAt(Info info, size_t i) {
  if (info[i].IsUndefined()) return 0;
  return static_cast<uint32_t>(integerAt(info, i, "crc", std::numeric_limits<uint32_t>::max()));
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

// ── Bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Napi::Value Crc32c(Info info) {
  const auto bytes = bytesAt(info, 0, "bytes");
  return Napi::Number::New(info.Env(), crc32c(crcAt(info, 1), bytes.data, bytes.length));
}

Napi::Value Crc32cPortable(Info info) {
  const auto bytes = bytesAt(info, 0, "bytes");
  return Napi::Number::New(info.Env(), crc32c_portable(crcAt(info, 1), bytes.data, bytes.length));
}

/** Bytes to skip at the front of a view until its address is a multiple of `alignment`. */
Napi::Value AlignmentGap(Info info) {
  const auto bytes = bytesAt(info, 0, "bytes");
  const auto alignment = static_cast<uintptr_t>(integerAt(info, 1, "alignment", 1 << 30));
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) refuse(info.Env(), "alignment must be a power of two.");
  const uintptr_t address = reinterpret_cast<uintptr_t>(bytes.data);
  return Napi::Number::New(info.Env(), static_cast<double>((alignment - (address & (alignment - 1))) & (alignment - 1)));
}

/**
 * The same bytes as a view over an ordinary ArrayBuffer. V8 copies into shared memory byte by byte where source and target
 * are not aligned alike (1 KiB: 230 ns against 20), because each element has to be stored whole; lines cut from a text are
 * hardly ever aligned. The lane's cursors order the accesses, not its payload bytes, so plain stores are enough.
 */
Napi::Value PlainView(Info info) {
  const auto bytes = bytesAt(info, 0, "bytes");
  auto* shared = new Napi::ObjectReference(Napi::Persistent(info[0].As<Napi::Object>()));
  try {
    const auto plain = Napi::ArrayBuffer::New(
        info.Env(), bytes.data, bytes.length,
        [](Napi::BasicEnv, void*, Napi::ObjectReference* held) { delete held; }, shared);
    return Napi::Uint8Array::New(info.Env(), bytes.length, plain, 0);
  } catch (...) {
    delete shared;  // a runtime without external buffers
    throw;
  }
}

/** Kept per environment, so that sealing a batch allocates nothing once it has seen a large one. */
struct Scratch {
  std::vector<Source> sources;
  std::vector<Range> ranges;
};

std::string complaintOf(const Sealed& sealed, const Range* range, size_t sourceCount) {
  const std::string at = "range " + std::to_string(sealed.range);
  switch (sealed.fault) {
    case SealFault::kPrefixTooShort:
      return "prefixBytes must be at least " + std::to_string(kBatchHeaderBytes) + ", the batch header.";
    case SealFault::kPrefixTooLong:
      return "prefixBytes must not be larger than staging.";
    case SealFault::kNoSuchSource:
      return at + " names source " + std::to_string(range->source) + ", but there are " + std::to_string(sourceCount) + ".";
    case SealFault::kOutsideSource:
      return at + " must lie within its source, from before to.";
    case SealFault::kOverlapsStaging:
      return at + " must not overlap staging.";
    default:
      return "the batch with its padding must fit into staging.";
  }
}

Napi::Value Seal(Info info) {
  const Napi::Env env = info.Env();
  const auto staging = bytesAt(info, 0, "staging");
  const auto prefixBytes = static_cast<size_t>(integerAt(info, 1, "prefixBytes", kMaxSafeInteger));
  if (!info[2].IsArray()) refuse(env, "sources must be an array of Uint8Array.");
  const auto ranges = doublesAt(info, 3, "ranges");
  const auto rangeCount = static_cast<size_t>(integerAt(info, 4, "rangeCount", kMaxSafeInteger));
  if (rangeCount > ranges.length / 3) refuse(env, "rangeCount must not be larger than the triples in ranges.");

  Scratch& scratch = *env.GetInstanceData<Scratch>();
  const Napi::Array sources = info[2].As<Napi::Array>();
  scratch.sources.clear();
  for (uint32_t i = 0; i < sources.Length(); i++) {
    const auto source = view<uint8_t>(env, sources.Get(i), napi_uint8_array, "sources must be an array of Uint8Array.");
    scratch.sources.push_back({source.data, source.length});
  }
  // Copied before they are checked: another thread may share the memory of `ranges`.
  scratch.ranges.clear();
  for (size_t i = 0; i < rangeCount; i++) {
    const double triple[3] = {ranges.data[3 * i], ranges.data[3 * i + 1], ranges.data[3 * i + 2]};
    for (const double number : triple) {
      if (!isIntegerUpTo(number, kMaxSafeInteger)) refuse(env, "ranges must hold non-negative integers.");
    }
    scratch.ranges.push_back(
        {static_cast<size_t>(triple[0]), static_cast<size_t>(triple[1]), static_cast<size_t>(triple[2])});
  }

  const Sealed sealed = seal(staging.data, staging.length, prefixBytes, scratch.sources.data(), scratch.sources.size(),
                             scratch.ranges.data(), rangeCount);
  if (sealed.fault != SealFault::kNone) {
    const Range* range = sealed.range < rangeCount ? &scratch.ranges[sealed.range] : nullptr;
    refuse(env, complaintOf(sealed, range, scratch.sources.size()));
  }
  return Napi::Number::New(env, static_cast<double>(sealed.paddedBytes));
}

Napi::Value EncodeFrames(Info info) {
  const Napi::Env env = info.Env();
  const auto out = bytesAt(info, 0, "out");
  const auto body = bytesAt(info, 1, "body");
  const auto ranges = view<uint32_t>(env, info[2], napi_uint32_array, "ranges must be a Uint32Array.");
  const auto records = static_cast<size_t>(integerAt(info, 3, "records", kMaxSafeInteger));
  const auto keyBytes = static_cast<uint16_t>(integerAt(info, 4, "keyBytes", std::numeric_limits<uint16_t>::max()));
  if (records > ranges.length / 2) refuse(env, "records must not be larger than the pairs in ranges.");
  const Framed framed =
      encodeFrames(out.data, out.length, body.data, body.length, ranges.data, records, keyBytes);
  if (framed.fault == FrameFault::kOutsideBody) {
    refuse(env, "range " + std::to_string(framed.record) + " must lie within body, from before to.");
  }
  if (framed.fault == FrameFault::kTooLong) refuse(env, "the frames must fit into out.");
  return Napi::Number::New(env, static_cast<double>(framed.bytes));
}

Napi::Value FindLines(Info info) {
  const Napi::Env env = info.Env();
  const auto body = bytesAt(info, 0, "body");
  const auto place = view<uint32_t>(env, info[1], napi_uint32_array, "place must be a Uint32Array.");
  const auto ranges = view<uint32_t>(env, info[2], napi_uint32_array, "ranges must be a Uint32Array.");
  const auto maxBytes = static_cast<size_t>(integerAt(info, 3, "maxBytes", kMaxSafeInteger));
  if (body.length > std::numeric_limits<uint32_t>::max()) refuse(env, "body must be shorter than 4 GiB.");
  if (place.length < 2 || place.data[0] > body.length || place.data[1] > ranges.length / 2) {
    refuse(env, "place must hold a position in body, and a number of pairs in ranges.");
  }
  const Lines found =
      findLines(body.data, body.length, {place.data[0], place.data[1]}, ranges.data, ranges.length / 2, maxBytes);
  place.data[0] = static_cast<uint32_t>(found.position);
  place.data[1] = static_cast<uint32_t>(found.count);
  return env.Undefined();
}

// ── Io ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

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

/**
 * Bytes that the kernel keeps of a connection before it is read; those that a listening socket accepts inherit it, and it then
 * does not grow by itself. Linux keeps books of twice as much. The descriptor is the caller's: node's handle of a server.
 */
void LimitReceiveBuffer(Info info) {
  const int fd = static_cast<int>(integerAt(info, 0, "fd", std::numeric_limits<int>::max()));
  const int bytes = static_cast<int>(integerAt(info, 1, "bytes", std::numeric_limits<int>::max() / 2));
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0) throwFailed(info.Env(), {errno, "setsockopt", nullptr});
}

/**
 * Gives the memory of a view back now, not when the collector comes to it: the view and all others of its buffer are empty after
 * it. Only where the view is all of an ordinary buffer; what shares one with others (node's pool), or may not be detached, stays.
 */
void Release(Info info) {
  if (!info[0].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "release: expected a typed array");
  const Napi::TypedArray view = info[0].As<Napi::TypedArray>();
  const Napi::Value held = view.Get("buffer");
  if (!held.IsArrayBuffer()) return;
  Napi::ArrayBuffer buffer = held.As<Napi::ArrayBuffer>();
  if (buffer.ByteLength() == view.ByteLength()) napi_detach_arraybuffer(info.Env(), buffer);
}

Napi::Object load(Napi::Env env, Napi::Object exports) {
  const char digits[] = "123456789";
  constexpr uint32_t kKnownAnswer = 0xe3069283;
  if (crc32c(0, digits, 9) != kKnownAnswer || crc32c_portable(0, digits, 9) != kKnownAnswer) {
    throw Napi::Error::New(env, "The addon computes CRC-32C wrongly on this processor: it must not be used.");
  }
  env.SetInstanceData(new Scratch());
  exports.Set("interface", Napi::Number::New(env, kNativeInterface));
  exports.Set("crc32c", Napi::Function::New<Crc32c>(env, "crc32c"));
  exports.Set("crc32cPortable", Napi::Function::New<Crc32cPortable>(env, "crc32cPortable"));
  exports.Set("crc32cHardware", Napi::Boolean::New(env, crc32c_hardware()));
  exports.Set("alignmentGap", Napi::Function::New<AlignmentGap>(env, "alignmentGap"));
  exports.Set("plainView", Napi::Function::New<PlainView>(env, "plainView"));
  exports.Set("seal", Napi::Function::New<Seal>(env, "seal"));
  exports.Set("encodeFrames", Napi::Function::New<EncodeFrames>(env, "encodeFrames"));
  exports.Set("findLines", Napi::Function::New<FindLines>(env, "findLines"));
  exports.Set("release", Napi::Function::New<Release>(env, "release"));
  exports.Set("limitReceiveBuffer", Napi::Function::New<LimitReceiveBuffer>(env, "limitReceiveBuffer"));
  exports.Set("Io", Io::define(env));
  return exports;
}

}  // namespace
}  // namespace spillway

static Napi::Object Load(Napi::Env env, Napi::Object exports) { return spillway::load(env, exports); }

NODE_API_MODULE(spillway, Load)
