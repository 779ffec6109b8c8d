// What addon.cc and addon_io.cc share: arguments are checked, and results become exceptions.
//
// Promises:
//  - a wrong argument throws a TypeError of one sentence with code ERR_INVALID_ARG;
//  - a failed call throws an Error with code, errno, syscall and, where known, path.

#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "errors.h"
#include "io.h"

namespace spillway {

constexpr double kMaxSafeInteger = 9007199254740991.0;

using Info = const Napi::CallbackInfo&;

[[noreturn]] inline void refuse(Napi::Env env, const std::string& sentence) {
  Napi::TypeError error = Napi::TypeError::New(env, sentence);
  error.Set("code", Napi::String::New(env, "ERR_INVALID_ARG"));
  throw error;
}

inline void throwFailed(Napi::Env env, const Result& result, const std::string& path = "") {
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

inline View<uint8_t> bytesAt(Info info, size_t i, const char* name) {
  return view<uint8_t>(info.Env(), info[i], napi_uint8_array, std::string(name) + " must be a Uint8Array.");
}

inline View<double> doublesAt(Info info, size_t i, const char* name) {
  return view<double>(info.Env(), info[i], napi_float64_array, std::string(name) + " must be a Float64Array.");
}

inline bool isIntegerUpTo(double number, double max) {
  return number >= 0 && number <= max && std::floor(number) == number;
}

inline double integerAt(Info info, size_t i, const char* name, double max) {
  const double number = info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1;
  if (!isIntegerUpTo(number, max)) {
    refuse(info.Env(), std::string(name) + " must be an integer from 0 to " + std::to_string(static_cast<int64_t>(max)) + ".");
  }
  return number;
}

}  // namespace spillway
