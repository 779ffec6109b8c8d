// The addon as JavaScript sees it (src/platform/native.ts declares the same shape): its functions over bytes and sockets, and
// all of its exports; the class Io is in addon_io.cc. Only the files addon*.cc and addon*.h know N-API: they check arguments
// (addon_args.h), turn results into exceptions and keep buffers alive; the work is done one floor below.
//
// Promises:
//  - a wrong argument throws a TypeError of one sentence with code ERR_INVALID_ARG, before anything is done;
//  - a failed call throws an Error with code, errno and syscall;
//  - no state is shared between environments: every worker thread loads its own.

#include <napi.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "addon_args.h"
#include "addon_io.h"
#include "batch.h"
#include "constants.h"
#include "crc32c.h"
#include "frames.h"

namespace spillway {
namespace {

uint32_t crcAt(Info info, size_t i) {
  if (info[i].IsUndefined()) return 0;
  return static_cast<uint32_t>(integerAt(info, i, "crc", std::numeric_limits<uint32_t>::max()));
}

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
 * Bytes that the kernel takes from a writer before a TCP connection can send them (and about as many as one call brings beyond);
 * those that a listening socket accepts inherit it. Nothing where there is no such option.
 */
void LimitUnsent(Info info) {
  const int fd = static_cast<int>(integerAt(info, 0, "fd", std::numeric_limits<int>::max()));
  const int bytes = static_cast<int>(integerAt(info, 1, "bytes", std::numeric_limits<int>::max() / 2));
#ifdef TCP_NOTSENT_LOWAT
  if (setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes) != 0) throwFailed(info.Env(), {errno, "setsockopt", nullptr});
#else
  (void)fd, (void)bytes;
#endif
}

/** Bytes that the kernel holds of a connection until its peer has acknowledged them. */
Napi::Value UnsentBytes(Info info) {
  const int fd = static_cast<int>(integerAt(info, 0, "fd", std::numeric_limits<int>::max()));
  int bytes = 0;
  if (ioctl(fd, TIOCOUTQ, &bytes) != 0) throwFailed(info.Env(), {errno, "ioctl", nullptr});
  return Napi::Number::New(info.Env(), bytes);
}

/** Another descriptor of the same socket: the caller's to close. */
Napi::Value Duplicate(Info info) {
  const int fd = static_cast<int>(integerAt(info, 0, "fd", std::numeric_limits<int>::max()));
  const int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (other < 0) throwFailed(info.Env(), {errno, "fcntl", nullptr});
  return Napi::Number::New(info.Env(), other);
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
  exports.Set("limitUnsent", Napi::Function::New<LimitUnsent>(env, "limitUnsent"));
  exports.Set("unsentBytes", Napi::Function::New<UnsentBytes>(env, "unsentBytes"));
  exports.Set("duplicate", Napi::Function::New<Duplicate>(env, "duplicate"));
  exports.Set("Io", defineIo(env));
  return exports;
}

}  // namespace
}  // namespace spillway

static Napi::Object Load(Napi::Env env, Napi::Object exports) { return spillway::load(env, exports); }

NODE_API_MODULE(spillway, Load)
