// The class Io of the addon: descriptors that it opened, and durable writes on them. Its promises are told in addon_io.cc.

#pragma once

#include <napi.h>

namespace spillway {

/** The constructor, as JavaScript gets it. */
Napi::Function defineIo(Napi::Env env);

}  // namespace spillway
