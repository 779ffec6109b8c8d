// Generated from src/base/limits.ts by scripts/generate-constants.ts; do not edit.

#pragma once

namespace spillway {

constexpr int kNativeInterface = 4;
constexpr unsigned kBlockBytes = 4096;
constexpr unsigned kBatchHeaderBytes = 64;
constexpr unsigned kBatchCrcAt = 60;
constexpr unsigned kRecordHeaderBytes = 16;
constexpr unsigned kRecordAlignBytes = 8;

// Slots of the counter block.
constexpr int kOpenat = 0;
constexpr int kClose = 1;
constexpr int kPwrite64 = 2;
constexpr int kPwritev = 3;
constexpr int kPwritev2 = 4;
constexpr int kFdatasync = 5;
constexpr int kFsync = 6;
constexpr int kRename = 7;
constexpr int kUnlink = 8;
constexpr int kFallocate = 9;
constexpr int kFtruncate = 10;
constexpr int kFlock = 11;
constexpr int kBytesWritten = 12;
constexpr int kCommitWrites = 13;
constexpr int kCommitSyncs = 14;
constexpr int kCounterSlots = 16;

}  // namespace spillway
