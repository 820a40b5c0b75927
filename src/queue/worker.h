// Runs jobs from a store, one at a time: claim, run the handler, finish. A thread of its own renews
// the lease, so that a long matrix step does not lose it.
#pragma once

#include <time.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "queue/job_store.h"

namespace svdllm {

struct WorkerOptions {
  std::string id;  // unique among living workers
  int64_t lease_ms = 30000;
  int64_t poll_ms = 100;  // how soon new jobs and cancellations are noticed
  // Called before the first claim. An error ends the worker, and no job is touched. Empty: there is
  // nothing to prepare.
  std::function<absl::Status()> prepare{};
  // Called after an attempt has failed, before that is stored. An error says that no job can run in
  // this process any more: the attempt is then tried again elsewhere, and the worker ends. Empty:
  // every job gets its try.
  std::function<absl::Status()> check_after_failure{};
  // Jobs for which it is false are left alone. Empty: there are none.
  JobFilter can_run{};
  // How long an attempt may go on after it was cancelled or its timeout has passed.
  int64_t stop_ms = 60000;
  // How long an attempt's thread may neither call Check or Report nor use the processor. An attempt
  // of longer is taken to hang.
  int64_t stall_ms = 300000;
  // How long an attempt that keeps what it finishes may go on when the worker is being stopped,
  // to finish what it has begun.
  int64_t keep_ms = 0;
  // Called with the id of a job that has ended, after that was stored. Empty: nobody wants to know.
  std::function<void(const std::string& job_id)> ended{};
  // Called about every poll_ms for as long as the worker is well. Empty: nobody wants to know.
  std::function<void()> beat{};
  // Called where an attempt has to end and does not return: it has to end this process. What is
  // then known of the attempt is stored already, or the job is given back by whoever started the
  // process. Empty: the attempt goes on.
  std::function<void(const std::string& why)> abandon{};
};

// What a handler sees of its attempt. Thread-safe.
class JobContext {
 public:
  // keep_ms: WorkerOptions::keep_ms.
  JobContext(JobStore& store, ClaimedJob claimed, const std::atomic<bool>& stopping,
             int64_t keep_ms = 0);

  const Job& job() const { return claimed_.job; }
  const Lease& lease() const { return claimed_.lease; }
  // Says why the handler should return now, with this status: ABORTED (LEASE_LOST), CANCELLED,
  // UNAVAILABLE (the worker is being stopped) or DEADLINE_EXCEEDED (JOB_TIMEOUT). After
  // BeginPublish only a lost lease counts. It costs nothing.
  // An attempt that calls CheckKept may finish what it has begun when the worker is being stopped,
  // where it is likely to be done in time.
  absl::Status Check() const;
  // The same where all that was done so far is kept for the next attempt: the best place to stop.
  absl::Status CheckKept();
  // Stores an event. Trouble with the store does not concern the handler: the event is then
  // missing.
  void Report(NewEvent event);
  // Call it once, before anything becomes visible outside. Publish only after OK.
  absl::Status BeginPublish();

 private:
  friend class Worker;

  // How long this attempt has run.
  int64_t RanMs() const;
  // Whether it is worth going on to the next call of CheckKept while the worker is being stopped.
  bool MayFinish() const;
  // Whether the job's timeout has passed, and the error that says so.
  bool IsLate() const;
  absl::Status Late() const;

  JobStore& store_;
  const ClaimedJob claimed_;
  const std::atomic<bool>& stopping_;
  const int64_t keep_ms_;
  const int64_t start_ms_;  // of this attempt, by a clock that nobody sets
  // When CheckKept was last called, and how long that was after the call before; 0: never.
  std::atomic<int64_t> kept_at_ms_{0}, kept_after_ms_{0};
  mutable std::atomic<int64_t> stop_seen_ms_{0};  // by Check, for the first time
  mutable std::atomic<int64_t> steps_{0};         // calls of Check and Report
  std::atomic<bool> lost_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> publishing_{false};
  std::mutex lease_mutex_;  // held while the lease is renewed or given up
  std::atomic<bool> ended_{false};
};

struct HandlerResult {
  std::string result;
  std::vector<NewEvent> events;            // stored in front of the last state
  std::map<std::string, double> counters;  // added to the store's counters
  std::optional<Timing> timing{};
  // Where it is not OK, the job was done to its end and has FAILED nevertheless, by what came out:
  // the result says why.
  absl::Status failure = absl::OkStatus();
};

// Runs one attempt. An UNAVAILABLE error is tried again; every other error fails the job.
// Exceptions are caught: std::bad_alloc is HOST_OUT_OF_MEMORY, all others are INTERNAL.
using JobHandler = std::function<absl::StatusOr<HandlerResult>(JobContext&)>;

class Worker {
 public:
  // store outlives the worker.
  Worker(JobStore& store, JobHandler handler, WorkerOptions options);
  // Claims and runs jobs until Stop, which gives OK, or until an error of prepare or
  // check_after_failure, which is returned. A job that runs when the worker is stopped is given
  // back at its next Check.
  absl::Status Run();
  // Stops the worker for good. From any thread, at any time.
  void Stop();

 private:
  // Returns OK however the attempt went, or check_after_failure's error.
  absl::Status RunJob(ClaimedJob claimed);
  // Keeps the lease and watches for cancellation until the attempt has ended. `clock` is that of
  // the attempt's thread.
  void KeepLease(JobContext& context, clockid_t clock);
  // Ends this process where the attempt should have ended, or hangs.
  struct Watch {
    clockid_t clock;            // of the attempt's thread
    int64_t over_since_ms = 0;  // since when it should have ended; 0: it may go on
    int64_t moved_ms = 0;       // when it was last seen to get on
    int64_t steps = -1, used_us = -1;
  };
  // Ends this process where the attempt should have ended long ago, or hangs.
  void EnforceEnd(JobContext& context, Watch& watch);
  void Abandon(JobContext& context, const Outcome* outcome, const std::string& why);
  void EndAttempt(JobContext& context, absl::StatusOr<HandlerResult> result);
  // Waits. Returns true where the worker was stopped meanwhile.
  bool Sleep(int64_t ms);

  JobStore& store_;
  const JobHandler handler_;
  const WorkerOptions options_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace svdllm
