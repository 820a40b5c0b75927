// A job as it is stored. Requests, results and payloads are bytes that only the layers above read.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace svdllm {

// The reasons of errors that arise here, beside those of base/status.h.
inline constexpr std::string_view kStoreUnavailable = "STORE_UNAVAILABLE";
inline constexpr std::string_view kJobStateReason = "JOB_STATE";  // the state forbids the call
inline constexpr std::string_view kWorkerDied = "WORKER_DIED";
inline constexpr std::string_view kPlanTimeout = "PLAN_TIMEOUT";
inline constexpr std::string_view kPlannerDied = "PLANNER_DIED";
inline constexpr std::string_view kServerBusy = "SERVER_BUSY";
inline constexpr std::string_view kRequestNotUnderstood = "REQUEST_NOT_UNDERSTOOD";
inline constexpr std::string_view kQuotaExceeded = "QUOTA_EXCEEDED";  // of one owner
inline constexpr std::string_view kInternal = "INTERNAL";

// The numbers are stored, and equal those of the API.
enum class JobState {
  kQueued = 1,
  kRunning = 2,
  kCancelling = 3,
  kSucceeded = 4,
  kFailed = 5,
  kCancelled = 6,
};
enum class JobKind { kCompressModel = 1, kEvaluate = 2 };

std::string_view JobStateName(JobState state);  // "QUEUED", ...
std::string_view JobKindName(JobKind kind);     // "COMPRESS_MODEL", ...
// A number that is none of them is a newer version's state, and nothing is known about it.
inline bool IsKnown(JobState state) {
  return state >= JobState::kQueued && state <= JobState::kCancelled;
}
inline bool IsTerminal(JobState state) { return IsKnown(state) && state >= JobState::kSucceeded; }

// What a record keeps of a text, an error's message or an event's: longer ones are shortened.
inline constexpr size_t kMaxRecordedBytes = 4096;

struct JobError {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  std::string reason;
  std::string message;
};
// Makes an error of a status, its message as a record keeps it. Its reason is the status's own, or
// INTERNAL where it has none.
JobError ToJobError(const absl::Status& status);

// How an attempt ended.
inline constexpr std::string_view kOutcomeSucceeded = "succeeded";
inline constexpr std::string_view kOutcomeFailed = "failed";
inline constexpr std::string_view kOutcomeCancelled = "cancelled";
inline constexpr std::string_view kOutcomeReleased = "released";  // given back; not counted
inline constexpr std::string_view kOutcomeLost = "lost";          // the worker died

struct Attempt {
  int number = 0;
  int64_t start_ms = 0;
  int64_t end_ms = 0;
  std::string outcome;
  std::optional<JobError> error;
};

// All times are milliseconds since 1970, and 0 where the thing has not happened.
struct Job {
  std::string id;
  JobKind kind = JobKind::kCompressModel;
  JobState state = JobState::kQueued;
  int attempt = 0;          // counted attempts, including the running one
  bool publishing = false;  // it is past the point where it can be cancelled
  std::string owner;        // who submitted it; empty: nobody that the server knows
  std::map<std::string, std::string> labels;
  int64_t create_ms = 0;
  int64_t start_ms = 0;  // of the first attempt
  int64_t update_ms = 0;
  int64_t end_ms = 0;
  int64_t timeout_ms = 0;  // that its attempts may run, all together; 0: no bound
  int64_t ttl_ms = 0;      // how long what it published is kept after its end; 0: for good
  int64_t expired_ms = 0;  // when that was removed; 0: it was not
  int64_t used_ms = 0;     // that its ended attempts have run, by a clock that nobody sets
  int64_t last_sequence = 0;
  int64_t queue_position = 0;  // QUEUED only: 1 for the one that is claimed first
  std::string request;
  std::string progress;  // payload of the latest progress event of this attempt
  std::string result;
  std::optional<JobError> error;
  std::vector<Attempt> attempts;  // those that have ended, the oldest first; filled by Get only
};

enum class EventKind { kState = 1, kProgress = 2, kArtifact = 3, kLog = 4 };

struct NewEvent {
  EventKind kind = EventKind::kLog;  // not kState: the store writes these itself
  std::string payload;
};

struct Event {
  int64_t sequence = 0;
  int64_t time_ms = 0;
  int attempt = 0;
  EventKind kind = EventKind::kLog;
  JobState state = JobState::kQueued;  // kState only
  std::optional<JobError> error;       // kState only
  std::string payload;                 // the other kinds
};

// What a job that has ended had been expected to be as work, and the time that it took. Plans of
// jobs like it are made by it.
struct Timing {
  std::string like;  // which jobs are alike: what they compute, and on what
  double work = 0;
  double seconds = 0;
};

// A worker's right to a job. The token grows with every claim in the store, so that a worker that
// holds an older one is told apart from the holder for ever.
struct Lease {
  std::string job_id;
  int64_t token = 0;
};

// Returns now, by the clock of a job's times. Somebody may set it.
int64_t WallMs();
// Returns milliseconds since about the machine's start, by a clock that nobody sets and that goes
// on while the machine sleeps. All processes of a machine have the same.
int64_t BootMs();
// A number that is another after each start of the machine.
int64_t BootNumber();

// Makes a new job's id. Ids sort by time and cannot be guessed; they have lower-case letters and
// digits.
std::string NewJobId();

}  // namespace svdllm
