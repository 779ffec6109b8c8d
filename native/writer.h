// One background thread that makes batches durable, so that the next batch is encoded while the disk works on this one.
//
//      owner thread    submit A · submit B ·········· settle → A · encode, submit C · settle → B …
//      writer thread             A ──────────▶ B ──────────▶ C ──────────▶
//
// Limits and promises:
//  - three jobs at most are outstanding (submitted and not settled): one under way and two ready, so that the disk does
//    not wait for JavaScript even when the owner is kept off its core for as long as a write takes. With one ready, two
//    producers on two cores got 0.75 to 0.86 of the disk's speed, with two 0.89 to 0.91 (1 KiB records, 1 MiB batches);
//  - jobs run strictly in the order of submission, results are settled in that order;
//  - after a job fails, every later one fails with ECANCELED without touching the file, for the life of the writer: a
//    poisoned log is recovered by reopening only;
//  - the thread begins with the first submit and takes no signals: they are for the threads of JavaScript;
//  - the destructor waits for the job under way, cancels the one that has not begun, and joins.
//
// All functions and the destructor belong to one owner thread.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <mutex>
#include <thread>

#include "io.h"

namespace spillway {

struct Job {
  Mode mode;
  int fd;
  /** Must stay valid and unchanged until the job is settled or the writer destroyed. */
  const uint8_t* bytes;
  size_t length;
  int64_t position;
};

/**
 * std::condition_variable over the same pthread calls. The one in libstdc++ has had a new symbol version since GCC 12,
 * and an addon built with it would not load where the library is older.
 */
class Condition {
 public:
  template <typename Predicate>
  void wait(std::unique_lock<std::mutex>& hold, Predicate predicate) {
    while (!predicate()) pthread_cond_wait(&condition_, hold.mutex()->native_handle());
  }
  void notifyOne() { pthread_cond_signal(&condition_); }

  Condition() = default;
  ~Condition() { pthread_cond_destroy(&condition_); }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

 private:
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};

/** Does one job; an argument, so that tests can bring a disk that waits or fails. Must not throw. */
struct Performer {
  virtual Result perform(const Job& job) = 0;

 protected:
  ~Performer() = default;
};

class Writer {
 public:
  static constexpr int kDepth = 3;

  /** @param performer outlives the writer */
  explicit Writer(Performer& performer) : performer_(performer) {}
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /** False where kDepth jobs are outstanding. @throws std::system_error where no thread can be started */
  bool submit(const Job& job);

  /** Waits for the oldest outstanding job. With none outstanding there is nothing to wait for: EINVAL. */
  Result settle();

  /** Waits until no job is queued or under way. Results stay, to be settled. */
  void waitUntilIdle();

  int outstanding() const { return static_cast<int>(submitted_ - settled_); }

 private:
  void start();
  void run();

  Performer& performer_;
  std::thread thread_;
  std::mutex mutex_;
  Condition submittedOne_;
  Condition finishedOne_;

  // Counts since the beginning; a job lives in slot count % kDepth. settled_ ≤ finished_ ≤ submitted_ ≤ settled_ + kDepth.
  uint64_t submitted_ = 0;  // owner writes under mutex_
  uint64_t finished_ = 0;   // writer thread, under mutex_
  uint64_t settled_ = 0;    // owner only
  bool stopping_ = false;   // owner, under mutex_
  Job jobs_[kDepth] = {};
  Result results_[kDepth] = {};
};

}  // namespace spillway
