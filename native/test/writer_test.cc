// The writer thread with a disk that waits for a word and fails on command: no test depends on timing.

#include "writer.h"

#include <csignal>
#include <cerrno>
#include <condition_variable>
#include <set>

#include "check.h"

using namespace spillway;

namespace {

class GatedDisk : public Performer {
 public:
  /** Positions whose job fails with ENOSPC. */
  std::set<int64_t> failing;

  Result perform(const Job& job) override {
    std::unique_lock<std::mutex> hold(mutex_);
    begun_.push_back(job.position);
    changed_.notify_all();
    changed_.wait(hold, [this, &job] { return job.position < openUpTo_; });
    // Reads what the owner wrote before submit: ThreadSanitizer checks that it was handed over.
    sum_ += job.bytes[0];
    return failing.count(job.position) > 0 ? Result{ENOSPC, "pwritev2", nullptr} : Result{};
  }

  /** Lets jobs at positions below `position` finish. */
  void open(int64_t position) {
    const std::lock_guard<std::mutex> hold(mutex_);
    openUpTo_ = position;
    changed_.notify_all();
  }

  void waitUntilBegun(size_t jobs) {
    std::unique_lock<std::mutex> hold(mutex_);
    changed_.wait(hold, [this, jobs] { return begun_.size() >= jobs; });
  }

  std::vector<int64_t> begun() {
    const std::lock_guard<std::mutex> hold(mutex_);
    return begun_;
  }

  int64_t sum() {
    const std::lock_guard<std::mutex> hold(mutex_);
    return sum_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int64_t> begun_;
  int64_t openUpTo_ = 0;
  int64_t sum_ = 0;
};

constexpr int64_t kAll = INT64_MAX;
uint8_t oneByte[1] = {1};

Job jobAt(int64_t position) { return {Mode::kDirect, 3, oneByte, 1, position}; }

void orderIsKept() {
  GatedDisk disk;
  disk.open(kAll);
  Writer writer(disk);
  constexpr int64_t kJobs = 5000;
  uint8_t buffers[Writer::kDepth][1];
  int64_t settled = 0;
  for (int64_t i = 0; i < kJobs; i++) {
    if (writer.outstanding() == Writer::kDepth) {
      CHECK(writer.settle().ok());
      settled++;
    }
    uint8_t* buffer = buffers[i % Writer::kDepth];
    buffer[0] = static_cast<uint8_t>(i % 3);
    CHECK(writer.submit({Mode::kDirect, 3, buffer, 1, i}));
  }
  while (writer.outstanding() > 0) {
    CHECK(writer.settle().ok());
    settled++;
  }
  CHECK_EQUAL(settled, kJobs);
  const std::vector<int64_t> begun = disk.begun();
  CHECK_EQUAL(begun.size(), static_cast<size_t>(kJobs));
  for (int64_t i = 0; i < kJobs; i++) CHECK_EQUAL(begun[static_cast<size_t>(i)], i);
  CHECK_EQUAL(disk.sum(), 4999);
}

/** Two more jobs are taken while the first is under way, a fourth is not; a settled one makes room. */
void threeDeep() {
  GatedDisk disk;
  Writer writer(disk);
  CHECK_EQUAL(writer.outstanding(), 0);
  CHECK(writer.submit(jobAt(0)));
  disk.waitUntilBegun(1);
  CHECK(writer.submit(jobAt(1)));
  CHECK(writer.submit(jobAt(2)));
  CHECK(!writer.submit(jobAt(3)));
  CHECK_EQUAL(writer.outstanding(), 3);
  CHECK_EQUAL(disk.begun().size(), 1u);

  // The disk goes on to the second job although the first was not settled.
  disk.open(1);
  disk.waitUntilBegun(2);
  CHECK(!writer.submit(jobAt(3)));
  CHECK(writer.settle().ok());
  CHECK_EQUAL(writer.outstanding(), 2);
  CHECK(writer.submit(jobAt(3)));
  disk.open(kAll);
  CHECK(writer.settle().ok());
  CHECK(writer.settle().ok());
  CHECK(writer.settle().ok());
  CHECK_EQUAL(writer.outstanding(), 0);
  CHECK_EQUAL(writer.settle().error, EINVAL);
}

void failureCancelsTheRest() {
  GatedDisk disk;
  disk.failing = {1};
  disk.open(kAll);
  Writer writer(disk);
  CHECK(writer.submit(jobAt(0)));
  CHECK(writer.submit(jobAt(1)));
  CHECK(writer.settle().ok());
  CHECK(writer.submit(jobAt(2)));
  const Result failed = writer.settle();
  CHECK_EQUAL(failed.error, ENOSPC);
  CHECK_EQUAL(std::string(failed.syscall), "pwritev2");
  CHECK_EQUAL(writer.settle().error, ECANCELED);
  for (int64_t i = 3; i < 6; i++) {
    CHECK(writer.submit(jobAt(i)));
    CHECK_EQUAL(writer.settle().error, ECANCELED);
  }
  CHECK_EQUAL(disk.begun().size(), 2u);
}

void idleIsNotSettled() {
  GatedDisk disk;
  disk.failing = {0};
  disk.open(kAll);
  Writer writer(disk);
  writer.waitUntilIdle();
  CHECK(writer.submit(jobAt(0)));
  CHECK(writer.submit(jobAt(1)));
  writer.waitUntilIdle();
  CHECK_EQUAL(disk.begun().size(), 1u);
  CHECK_EQUAL(writer.outstanding(), 2);
  CHECK_EQUAL(writer.settle().error, ENOSPC);
  CHECK_EQUAL(writer.settle().error, ECANCELED);
}

void destroyedIdle() {
  GatedDisk disk;
  disk.open(kAll);
  { Writer unused(disk); }
  {
    Writer writer(disk);
    CHECK(writer.submit(jobAt(0)));
    CHECK(writer.settle().ok());
  }
  CHECK_EQUAL(disk.begun().size(), 1u);
}

/** The destructor waits for the job under way; the queued one never reaches the disk. */
void destroyedWhileWriting() {
  GatedDisk disk;
  std::thread opener;
  {
    Writer writer(disk);
    CHECK(writer.submit(jobAt(0)));
    disk.waitUntilBegun(1);
    CHECK(writer.submit(jobAt(1)));
    opener = std::thread([&disk] {
      // Late, so that the destructor has most likely said stop; early would be a pass for another reason only.
      ::usleep(50 * 1000);
      disk.open(1);
    });
  }
  opener.join();
  CHECK_EQUAL(disk.sum(), 1);
  CHECK_EQUAL(disk.begun().size(), 1u);
}

/** Whether the thread that runs it would take a SIGUSR1. */
class MaskProbe : public Performer {
 public:
  bool blocked = false;

  Result perform(const Job&) override {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    blocked = sigismember(&mask, SIGUSR1) == 1;
    return {};
  }
};

void takesNoSignals() {
  MaskProbe probe;
  Writer writer(probe);
  CHECK(writer.submit(jobAt(0)));
  CHECK(writer.settle().ok());
  CHECK(probe.blocked);
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  CHECK_EQUAL(sigismember(&mine, SIGUSR1), 0);
}

}  // namespace

int main() {
  orderIsKept();
  threeDeep();
  failureCancelsTheRest();
  idleIsNotSettled();
  destroyedIdle();
  for (int i = 0; i < 10; i++) destroyedWhileWriting();
  takesNoSignals();
}
