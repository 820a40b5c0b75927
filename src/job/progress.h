// What every step of a job goes through: the check for cancellation, the progress, the times per
// stage.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "job/result.h"
#include "linalg/backend.h"

namespace svdllm {

// One line of progress. percent never falls within an attempt.
struct ProgressEvent {
  std::string stage;   // load, calibrate, allocate, factorise, write, evaluate, publish
  std::string module;  // e.g. "model.layers.3.mlp.down_proj"; empty where none applies
  int64_t layers_done = 0;
  int64_t layers_total = 0;
  double percent = 0;           // of the whole job, 0..100
  double eta_seconds = -1;      // negative: not known yet
  int64_t peak_host_bytes = 0;  // of this process
  int64_t peak_device_bytes = 0;
  std::string message;  // for people: "layer 3/30: loss 0.021"
};

// How a running job talks to the code that runs it. All functions are called from the job's thread.
struct RunHooks {
  std::function<void(const ProgressEvent&)> on_progress;
  // Called at least once per matrix step. A status that is not OK (CANCELLED, ABORTED for a lost
  // lease, DEADLINE_EXCEEDED) ends the job with that status, and nothing is published.
  std::function<absl::Status()> check;
  // Called where all that was done so far is kept for a later attempt. A status that is not OK ends
  // the job with it: this is the best moment to stop.
  std::function<absl::Status()> kept{};
  // Tells people something about the run that is neither progress nor an error.
  std::function<void(const std::string& text)> note{};
  // Called once, before the first artifact becomes visible. OK means that this attempt still holds
  // its lease and that no cancellation can come in between any more.
  std::function<absl::Status()> begin_publish;
};

// Not thread-safe: it belongs to the thread that runs the job.
class Progress {
 public:
  // total_work may be in any unit, as long as Step's work is in the same one. Peak memory counts
  // from here. A device's peak counts where the job runs on a backend with one, which outlives this
  // object.
  Progress(const RunHooks& hooks, double total_work, int64_t layers_total,
           Backend* backend = nullptr);

  // Says what total_work turns out to be. Until the inputs are read it is a guess.
  void Expect(double total_work);
  // Begins a stage: the time from here on counts for it.
  void Enter(const std::string& stage);
  // Reports that this much more work is done. Returns what the hooks' check says.
  absl::Status Step(double work, const std::string& module = "", const std::string& message = "");
  // Counts work that an earlier attempt has done: it is done, but says nothing of this one's speed.
  void Skip(double work);
  // Only asks the hooks' check.
  absl::Status Check() const;
  void LayerDone() { ++progress_.layers_done; }
  // The same for a layer that an earlier attempt has finished.
  void LayerSkipped() {
    ++progress_.layers_done;
    ++layers_skipped_;
  }
  int64_t layers_skipped() const { return layers_skipped_; }
  // Asks, where all that was done so far is kept, whether the job should stop here.
  absl::Status Kept() const;
  // Reports that nothing is left to do: 100 percent, and no time to go.
  void Done();

  std::vector<StageTime> Stages();
  // The most memory that was in use on the device. 0 where the backend's memory is the host's.
  int64_t PeakDeviceBytes();

 private:
  using Clock = std::chrono::steady_clock;
  const RunHooks& hooks_;
  Backend* const backend_;  // nullptr: the job runs on no device
  double total_work_;
  double done_work_ = 0, skipped_work_ = 0;
  int64_t layers_skipped_ = 0;
  ProgressEvent progress_;
  std::vector<StageTime> stages_;  // in the order of their first entry
  const Clock::time_point start_;
  Clock::time_point entered_;
};

// The process's peak resident memory since the last Progress was made.
int64_t PeakResidentBytes();

}  // namespace svdllm
