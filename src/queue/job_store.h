// The queue and the record of all jobs: the one place where a job's state changes.
//
// Durability: once a call has returned OK, what it wrote survives the death of the process and of
// the machine. Atomicity: each call happens entirely or not at all, and its events with it.
// Fencing: every call with a Lease whose token is no longer the job's current one changes nothing
// of the job and returns ABORTED with reason LEASE_LOST. States:
//   QUEUED ─Claim▸ RUNNING ─Finish▸ SUCCEEDED | FAILED
//     │ ▴            │ └────Release, worker died▸ QUEUED (or FAILED after kMaxAttempts)
//     └─Cancel▸ CANCELLED ◂─Finish, Release, worker died─ CANCELLING ◂─Cancel─ RUNNING
// Events of a job are numbered from 1 without gaps; the last one of an ended job is its state
// event. Waits, ends and durations are counted in the same transaction as the change of state.
//
// Thread-safe; several processes may open one store. Errors of the storage itself carry reason
// STORE_UNAVAILABLE: RESOURCE_EXHAUSTED where the disk is full, DATA_LOSS where what is stored is
// damaged (store_file.h), else UNAVAILABLE.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "queue/job.h"

namespace svdllm {

inline constexpr int kMaxAttempts = 3;
inline constexpr int kTimingsKept = 64;  // of jobs that are alike: the latest

struct NewJob {
  std::string id;  // unique; the caller makes it, because requests refer to it
  JobKind kind = JobKind::kCompressModel;
  std::string request_id;      // empty: never the same as another
  std::string payload_digest;  // of the request as it was sent
  std::map<std::string, std::string> labels;
  int64_t timeout_ms = 0;
  std::string request;
  // Canonical URIs of what it will publish. They are its own until it has ended.
  std::vector<std::string> outputs{};
  std::string owner{};  // Job::owner
  int64_t ttl_ms = 0;   // Job::ttl_ms
};

// What jobs of one owner may be at a time. 0: no limit, as for jobs without an owner.
struct OwnerLimits {
  int64_t queued = 0;
  int64_t running = 0;  // those that are being cancelled too
};

struct CreateResult {
  Job job;
  bool created = false;  // false: request_id was known already, and this is its job
};

struct ListQuery {
  int page_size = 50;
  std::string page_token;
  std::vector<JobState> states;               // any of; empty: all
  std::vector<JobKind> kinds;                 // any of; empty: all
  std::map<std::string, std::string> labels;  // all of
  std::string owner;                          // empty: anybody's
  bool oldest_first = false;
};

struct ListPage {
  std::vector<Job> jobs;        // in the order asked for, without attempts
  std::string next_page_token;  // empty on the last page
};

// Whether a job may be claimed. It has neither labels nor attempts; the store is locked meanwhile.
using JobFilter = std::function<bool(const Job& job)>;

struct ClaimedJob {
  Job job;
  Lease lease;
};

// How an attempt ended. Exactly one of the three kinds.
struct Outcome {
  enum class Kind { kSucceeded, kFailed, kCancelled };
  Kind kind = Kind::kSucceeded;
  // kSucceeded, and kFailed where the figures that a job ended with are why it failed.
  std::string result;
  std::vector<NewEvent> events;            // with a result: stored in front of the state event
  std::map<std::string, double> counters;  // added to StoreStats.counters
  std::optional<Timing> timing{};          // kSucceeded: kept for Timings
  JobError error;                          // kFailed
  bool retry = false;  // kFailed: queued again after a pause while attempts are left
};

struct StoreStats {
  std::map<JobState, int64_t> jobs;  // every state is there
  // When the job that waits longest became QUEUED, for the first time or again. 0: none waits.
  int64_t oldest_queued_ms = 0;
  std::vector<std::string> busy_workers;   // ids of those that hold a lease
  std::map<std::string, double> counters;  // metrics.h names them; they only grow
};

class JobStore {
 public:
  virtual ~JobStore() = default;

  // Creates a QUEUED job, or returns the one that request_id made before: INVALID_ARGUMENT with
  // REQUEST_ID_REUSED where its payload was another. ALREADY_EXISTS with OUTPUT_EXISTS where an
  // output, or what it lies in or holds, is one of a job that has not ended. RESOURCE_EXHAUSTED
  // with QUEUE_FULL where max_queued jobs wait, with QUOTA_EXCEEDED where the owner is at its limit
  // (OwnerLimits::queued).
  virtual absl::StatusOr<CreateResult> Create(const NewJob& job, int64_t max_queued) = 0;
  // OUTPUT_EXISTS, as above, where an output is a job's that has not ended.
  virtual absl::Status CheckOutputs(const std::vector<std::string>& outputs) = 0;
  // Returns the job that request_id made, or none, or REQUEST_ID_REUSED as above. An empty id finds
  // none.
  virtual absl::StatusOr<std::optional<Job>> FindRequest(const std::string& request_id,
                                                         const std::string& payload_digest) = 0;
  // Returns a job. NOT_FOUND with JOB_NOT_FOUND where there is none with this id, here and below.
  virtual absl::StatusOr<Job> Get(const std::string& id) = 0;
  // Returns one page. INVALID_ARGUMENT where the token is not one of a page with these filters and
  // this order.
  virtual absl::StatusOr<ListPage> List(const ListQuery& query) = 0;
  // A QUEUED job becomes CANCELLED, a RUNNING one CANCELLING; jobs in either of these states stay
  // as they are. FAILED_PRECONDITION with JOB_STATE where the job is publishing, SUCCEEDED or
  // FAILED.
  virtual absl::StatusOr<Job> Cancel(const std::string& id) = 0;
  // Deletes a job that has ended. FAILED_PRECONDITION with JOB_STATE for any other.
  virtual absl::Status Delete(const std::string& id) = 0;
  // Returns at most limit jobs that have ended and of which what they published is due to be
  // removed, the longest due first, without the first `skip` of them.
  virtual absl::StatusOr<std::vector<Job>> Expiring(int limit, int skip) = 0;
  // What the job published is removed: it is due no more.
  virtual absl::Status SetExpired(const std::string& id) = 0;
  // Deletes jobs that ended more than age_ms ago with their history, at most limit of them, and
  // returns how many these were. One that still has something to be removed stays until it is.
  virtual absl::StatusOr<int> DeleteEnded(int64_t age_ms, int limit) = 0;
  // Returns at most limit events after after_sequence, in order. An unknown job has none.
  virtual absl::StatusOr<std::vector<Event>> Events(const std::string& id, int64_t after_sequence,
                                                    int limit) = 0;
  virtual absl::StatusOr<StoreStats> Stats() = 0;
  // Returns the timings of finished jobs that are like one of these, the latest first.
  virtual absl::StatusOr<std::vector<Timing>> Timings(const std::vector<std::string>& like) = 0;
  // Returns a number that changes whenever something may have been written. It is cheap enough to
  // poll.
  virtual absl::StatusOr<int64_t> Version() = 0;
  // Writes something and takes it back. OK where submissions can be stored.
  virtual absl::Status CheckWritable() = 0;

  // Returns the job that has waited longest and may run now, or none. Jobs of owners at their limit
  // (OwnerLimits::running) are passed over. The job becomes RUNNING under a new lease. can_run:
  // jobs for which it is false are left alone; empty: every job can.
  virtual absl::StatusOr<std::optional<ClaimedJob>> Claim(const std::string& worker_id,
                                                          int64_t lease_ms,
                                                          const JobFilter& can_run = {}) = 0;
  // Extends the lease to lease_ms from now. attempt_ms: how long the attempt has run, by the
  // worker's own clock, for Job::used_ms. Returns true where the job is CANCELLING.
  virtual absl::StatusOr<bool> Renew(const Lease& lease, int64_t lease_ms,
                                     int64_t attempt_ms = 0) = 0;
  // Appends events. A progress event is the job's progress from then on.
  virtual absl::Status Append(const Lease& lease, std::span<const NewEvent> events) = 0;
  // After OK the job can no longer be cancelled. CANCELLED where it is CANCELLING already.
  virtual absl::Status BeginPublish(const Lease& lease) = 0;
  // Ends the attempt and returns the job's state. A CANCELLING job becomes CANCELLED whatever the
  // outcome is.
  virtual absl::StatusOr<JobState> Finish(const Lease& lease, const Outcome& outcome) = 0;
  // Gives the job back: it is QUEUED and the attempt does not count (CANCELLED where it was
  // CANCELLING).
  virtual absl::Status Release(const Lease& lease) = 0;

  // Whether this is its job's current lease, by what is stored.
  virtual absl::StatusOr<bool> IsCurrent(const Lease& lease) = 0;

  // Ends every attempt whose lease has run out, and returns how many these were. Their jobs become
  // QUEUED again, FAILED with ATTEMPTS_EXHAUSTED where this was the last attempt, or CANCELLED
  // where they were CANCELLING.
  virtual absl::StatusOr<int> ExpireLeases() = 0;
  // Does the same at once for all leases of workers whose id begins with worker_prefix. reason and
  // why go into the attempt's error. A job whose worker was killed for want of memory
  // (HOST_OUT_OF_MEMORY) pauses before its next attempt, and becomes FAILED with that reason the
  // second time: a third attempt would end in the same place.
  virtual absl::StatusOr<int> ReleaseWorkers(const std::string& worker_prefix,
                                             const std::string& why,
                                             std::string_view reason = kWorkerDied) = 0;
};

struct SqliteStoreOptions {
  std::string path;
  std::function<int64_t()> now_ms;  // empty: WallMs
  // The clock of leases and pauses. Empty: now_ms where that is given, else BootMs.
  std::function<int64_t()> boot_ms{};
  // Told when a change begins (true) and ends (false) to keep other processes from theirs. Empty:
  // nobody wants to know.
  std::function<void(bool)> writing{};
  OwnerLimits owner_limits{};  // the same in every process that opens the store
  int busy_timeout_ms = 5000;
  int64_t retry_pause_ms = 2000;  // before the second attempt of a retried failure; then doubled
};

// Opens a store in one SQLite file (WAL, synchronous=FULL). The file is created where absent. A
// file that a newer version of this program has written is refused (FAILED_PRECONDITION). One of an
// earlier version is brought up to date, and a copy of it as it was stays beside it:
// "jobs.db.schema-1".
absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(const SqliteStoreOptions& options);

}  // namespace svdllm
