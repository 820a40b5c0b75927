// What every step of a job goes through: the check for cancellation, progress, times by stage.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "job/spec.h"
#include "linalg/backend.h"

namespace svdllm {

// Not thread-safe: belongs to the thread that runs the job.
class RunLog {
 public:
  // total_work is in any unit, as long as Step's work is in the same. Peak memory counts from here,
  // that of a device where the job runs on a backend with one, which outlives the log.
  RunLog(const RunHooks& hooks, double total_work, int64_t layers_total,
         Backend* backend = nullptr);

  // What total_work turns out to be: until the inputs are read it is a guess.
  void Expect(double total_work);
  // Time from here on counts for this stage.
  void Enter(const std::string& stage);
  // Reports that so much more work is done; returns what the hooks' check says.
  absl::Status Step(double work, const std::string& module = "", const std::string& message = "");
  // Only the check.
  absl::Status Check() const;
  void LayerDone() { ++progress_.layers_done; }
  void RestartLayers() { progress_.layers_done = 0; }

  std::vector<StageTime> Stages();
  // The most that was in use on the device; 0 where memory is the host's.
  int64_t PeakDeviceBytes();

 private:
  using Clock = std::chrono::steady_clock;
  const RunHooks& hooks_;
  Backend* const backend_;  // nullptr: on no device
  double total_work_;
  double done_work_ = 0;
  Progress progress_;
  std::vector<StageTime> stages_;  // in the order of their first entry
  const Clock::time_point start_;
  Clock::time_point entered_;
};

// The process's peak resident memory since the last RunLog was made.
int64_t PeakResidentBytes();

}  // namespace svdllm
