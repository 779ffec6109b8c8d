# CMakeLists.txt lists the same sources; a test compares the two.
{
  "targets": [
    {
      "target_name": "spillway",
      "sources": [
        "native/addon.cc",
        "native/addon_io.cc",
        "native/batch.cc",
        "native/crc32c.cc",
        "native/errors.cc",
        "native/frames.cc",
        "native/io.cc",
        "native/writer.cc",
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_CPP_EXCEPTIONS",
        "NODE_ADDON_API_CPP_EXCEPTIONS_ALL",
        # A call that terminate() meets halfway cannot throw any more: it returns, instead of ending the process.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
      ],
      "cflags": ["-O3", "-Wall", "-Wextra", "-fvisibility=hidden"],
      "cflags_cc": ["-std=c++17"],
      # Node's own settings forbid exceptions; arguments are refused by throwing.
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17", "-std=gnu++20"],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "GCC_OPTIMIZATION_LEVEL": "3",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
      },
    },
  ],
}
