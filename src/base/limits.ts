// The named numbers of Spillway that are not options. Whatever also lives in C++ is generated from here into
// native/constants.h (scripts/generate-constants.ts); a test compares the two.

/** Unit of every batch on disk: a torn or rewritten block never holds part of an acknowledged batch. */
export const BLOCK_BYTES = 4096;
export const BATCH_HEADER_BYTES = 64;
/** Place of the checksum in the batch header: the last word, so that all before it is covered in one run. */
export const BATCH_CRC_AT = 60;
/** Frame header of one record, in a lane and on disk alike: bytes go from one to the other unchanged. */
export const RECORD_HEADER_BYTES = 16;
/** Frames start at multiples of this, so that header words are aligned. */
export const RECORD_ALIGN_BYTES = 8;

/** Identity of a record in front of its key: producer id 16 · low u32 · high u32. */
export const IDENTITY_BYTES = 24;
/** A key's length is a u16 of the frame header. */
export const MAX_KEY_BYTES = 65_535;
/**
 * Pairs of lane and stream that may be used since the log was opened: their names and indexes lie on the heaps of two threads, whose
 * caps hold so many of the longest. A stream id is a u16 of the frame header; 0 is never used.
 */
export const MAX_STREAM_IDS = 16_383;
/** Entries (batch, stream) in the index of a segment, which lies on a heap too; one with more is sealed before it is full. */
export const MAX_INDEX_ENTRIES = 262_144;
/** Room for the stream names of one batch; a batch that needs more closes early, for reason `bytes`. */
export const MAX_STREAM_TABLE_BYTES = 16_384;
/** Largest window.maxBytes that can be set, and thereby the records of one batch. */
export const MAX_WINDOW_BYTES = 64 * 1024 * 1024;
/** What a compressed batch may say it held before: more is damage, before anything is allocated for it. */
export const MAX_BATCH_RAW_BYTES = MAX_WINDOW_BYTES + MAX_STREAM_TABLE_BYTES + RECORD_ALIGN_BYTES;
/** What a compressor keeps between two batches: zstd (level 3, window 2 MiB, and what it buffers) up to 4 MiB, gzip 0.3, lz4 0.06. */
export const COMPRESSOR_BYTES = 4 * 1024 * 1024;
/** Decompressing a byte takes a look at the log as long as walking over so many: gzip about 0.3 GB/s, plain about 1 GB/s. */
export const DECODE_WALK_FACTOR = 4;
/** Byte ranges that one batch may gather from the lanes; a batch that needs more closes early. */
export const MAX_RANGES = 4096;
/** Acknowledgement runs a lane holds until its producer reads them; a lane without room is not drained. */
export const ACK_SLOTS = 1024;

/** Groups of streams whose readers are woken together. */
export const STREAM_MARKS = 1024;

/** Zeros written in one call while the next segment is being prepared: short beside the p99 target. */
export const FILL_BYTES = 1024 * 1024;
/** Bytes read in one call while scanning or reading: what was read is still in the processor's cache when it is checked. */
export const READ_CHUNK_BYTES = 256 * 1024;
/** Threads that check a log, at most: more of them wait for the same memory or disk. */
export const VERIFY_THREADS = 4;
/** One thread per so much of segments: to start another takes as long as to check about this. */
export const VERIFY_THREAD_BYTES = 256 * 1024 * 1024;
/** So long after a batch, at most, the durable end is written down, so that later damage below it shows. */
export const CHECKPOINT_MS = 1000;
/** How long a close waits for a producer that does not read its acknowledgements. */
export const CLOSE_GRACE_MS = 1000;
/** How often a lane is looked at whose producer has not read its acknowledgements for longer than that. */
export const BUSY_LANE_POLL_MS = 50;
/** How often a full disk is tried again. */
export const DISK_FULL_RETRY_MS = 200;
/** How often a reader in another process looks for new batches. */
export const FOLLOW_POLL_MS = 20;
/** How often a thread that waits for shared memory to change looks for itself; the timer also keeps the process alive. */
export const KEEP_ALIVE_MS = 1000;
/** What a pending promise costs beside its payload, for maxWaitingBytes. */
export const WAITER_OVERHEAD_BYTES = 256;

/** Headers of one HTTP request, and bytes of them. */
export const MAX_HEADERS = 64;
/** Requests of one connection that may wait for the one before. */
export const MAX_PIPELINED = 16;
export const MAX_HEADER_BYTES = 8192;
export const HEADERS_TIMEOUT_MS = 10_000;
export const REQUEST_TIMEOUT_MS = 30_000;
/** How often node:http looks for requests that are too slow: else the timeouts above fire at 30 s. */
export const CONNECTIONS_CHECK_MS = 1000;
/** An idle connection is kept this long: longer than the usual 60 s of a load balancer, which then closes first. */
export const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** A connection on which nothing moves, not even an answer, for this long is closed. */
export const SOCKET_IDLE_MS = 120_000;
/** A TLS connection has to be encrypted within this long. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Longest path of a Unix socket on Linux, in bytes: `sun_path` without its NUL. Other systems have less, none has more. */
export const MAX_SOCKET_PATH_BYTES = 107;
/** A client of the framed protocol that waits hears something at least this often: well below what clients take for death. */
export const ALIVE_MS = 3000;
/** Idle time after which the kernel asks a peer of the framed protocol whether it is still there. */
export const KEEP_ALIVE_PROBE_MS = 60_000;
/** SO_RCVBUF of some framed connections: what Linux allows where net.core.rmem_max is left alone. The kernel takes twice. */
export const LARGE_RECEIVE_BYTES = 212_992;
/** New connections that a turn of the event loop takes of one listener. */
export const ACCEPTS_PER_TURN = 16;
/** Of an accept thread. */
export const LARGE_RECEIVE_CONNECTIONS = 4;
/** What the kernel takes of answers before it can send them (TCP_NOTSENT_LOWAT): enough to keep a connection busy. */
export const UNSENT_BYTES = 65_536;
/** First piece of ingressBytes for a body of unknown length, and each next one. */
export const BODY_PIECE_BYTES = 16_384;
/** Text of one answer to a read, unless that of its first record is longer. */
export const READ_PAGE_BYTES = 1024 * 1024;
/** Answers to reads that an accept thread holds together, unless the longest text of a single record is more. */
export const READ_ANSWERS_BYTES = 6 * 1024 * 1024;
/** About so much of an answer is handed to its socket at a time. */
export const READ_PIECE_BYTES = 65_536;
/** A reader that does not take a piece of its answer within this time is cut. */
export const READ_STALL_MS = 30_000;
/** Bytes of the log that one look for a page walks over: about a millisecond from the page cache. The next is in a later turn of the event loop. */
export const READ_LOOK_BYTES = 1024 * 1024;
/** Looks for one page that come to that end. */
export const READ_LOOKS = 4;
/** Records that one look hands out: some tenths of a millisecond to make text of. */
export const READ_LOOK_RECORDS = 128;
/** After a look, while producers send: no other for so many times as long. */
export const READ_REST = 3;
/** For so long behind a look that saw one of their records wait. */
export const READ_REST_BEHIND_MS = 100;
export const READ_PAGE_RECORDS = 10_000;
/** Longest long poll. */
export const READ_WAIT_MS = 60_000;
/** Arrivals of one accept thread that may wait to be written down: a power of two. Those of 0.2 s at 160,000 a second. */
export const ARRIVAL_ROWS = 32_768;
/** Largest trace of arrivals, written or read: 1.5 million rows as a gateway writes them. */
export const MAX_TRACE_BYTES = 64 * 1024 * 1024;
/** Bad records that an answer describes; more are only counted. */
export const BAD_RECORDS_SHOWN = 20;

/** A plain body of at most this many bytes is split on the accept thread: handing it to another one costs more. */
export const DECODE_INLINE_BYTES = 65_536;
/** What decoding may produce beyond maxBytes before it stops. */
export const DECODE_SLACK_BYTES = 65_536;
/** Largest window that a zstd body may ask for, as a power of two: 8 MiB, what RFC 8878 asks decoders to support. */
export const ZSTD_WINDOW_LOG = 23;
/** CPU stage of one request: longer, and its thread is ended. A schema's pattern may backtrack without end. */
export const DECODE_TASK_MS = 10_000;
/** What decode threads add to the niceness of the process: on busy processors they leave the rest about nine parts of ten. */
export const DECODE_NICE = 10;
/** Bodies that may wait for a decode thread, in bytes, unless the pool is given another bound. */
export const DECODE_WAITING_BYTES = 64 * 1024 * 1024;
/** Heap cap of a decode thread that parses nothing: buffers lie outside of it. Half of it was enough for whatever was tried. */
export const DECODE_HEAP_MIB = 12;
/** Added to it, times the largest record, where a schema parses records: `[[[…` takes this many bytes of heap a byte. */
export const DECODE_HEAP_PER_RECORD_BYTE = 64;
/** Largest schema file. */
export const MAX_SCHEMA_BYTES = 1024 * 1024;

/** Index of each counter in the shared counter block: the name of the system call as strace prints it. */
export const counterSlots = {
  openat: 0,
  close: 1,
  pwrite64: 2,
  pwritev: 3,
  pwritev2: 4,
  fdatasync: 5,
  fsync: 6,
  rename: 7,
  unlink: 8,
  fallocate: 9,
  ftruncate: 10,
  flock: 11,
  bytesWritten: 12,
  commitWrites: 13,
  commitSyncs: 14,
} as const;
export const COUNTER_SLOTS = 16;
export type CounterName = keyof typeof counterSlots;

/** Counts up with every change of what native/addon.cc and addon_io.cc export: an addon of other sources is not used. */
export const NATIVE_INTERFACE = 4;
