#include "writer.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>

namespace spillway {

void Writer::start() {
  // A thread inherits the mask it is born with; blocking inside run() would leave a gap.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread(&Writer::run, this);
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool Writer::submit(const Job& job) {
  if (outstanding() == kDepth) return false;
  if (!thread_.joinable()) start();
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    jobs_[submitted_ % kDepth] = job;
    submitted_++;
  }
  submittedOne_.notify_one();
  return true;
}

Result Writer::settle() {
  if (outstanding() == 0) return {EINVAL, "settle", "nothing is outstanding"};
  std::unique_lock<std::mutex> hold(mutex_);
  finishedOne_.wait(hold, [this] { return finished_ > settled_; });
  return results_[settled_++ % kDepth];
}

void Writer::waitUntilIdle() {
  std::unique_lock<std::mutex> hold(mutex_);
  finishedOne_.wait(hold, [this] { return finished_ == submitted_; });
}

void Writer::run() {
  bool failed = false;
  std::unique_lock<std::mutex> hold(mutex_);
  for (;;) {
    submittedOne_.wait(hold, [this] { return stopping_ || submitted_ > finished_; });
    if (stopping_) return;
    const uint64_t slot = finished_ % kDepth;
    const Job job = jobs_[slot];
    Result result = {ECANCELED, durableCallName(job.mode), "an earlier write failed"};
    if (!failed) {
      hold.unlock();
      result = performer_.perform(job);
      hold.lock();
      failed = !result.ok();
    }
    results_[slot] = result;
    finished_++;
    finishedOne_.notify_one();
  }
}

Writer::~Writer() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    stopping_ = true;
  }
  submittedOne_.notify_one();
  thread_.join();
}

}  // namespace spillway
