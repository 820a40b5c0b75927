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
inline bool IsTerminal(JobState state) { return state >= JobState::kSucceeded; }

struct JobError {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  std::string reason;
  std::string message;
};
// Makes an error of a status. Its reason is the status's own, or INTERNAL where it has none.
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
  std::map<std::string, std::string> labels;
  int64_t create_ms = 0;
  int64_t start_ms = 0;  // of the first attempt
  int64_t update_ms = 0;
  int64_t end_ms = 0;
  int64_t timeout_ms = 0;  // from start_ms; 0: none
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

// A worker's right to a job. The token grows with every claim in the store, so that a worker that
// holds an older one is told apart from the holder for ever.
struct Lease {
  std::string job_id;
  int64_t token = 0;
};

// Returns now, by the clock of a job's times.
int64_t WallMs();

// Makes a new job's id. Ids sort by time and cannot be guessed; they have lower-case letters and
// digits.
std::string NewJobId();

}  // namespace svdllm
