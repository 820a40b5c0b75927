#include "pipeline/run_log.h"

#include <sys/resource.h>

#include <algorithm>

namespace svdllm {

int64_t PeakResidentBytes() {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? int64_t{1024} * usage.ru_maxrss : 0;
}

RunLog::RunLog(const RunHooks& hooks, const Backend& backend, double total_work,
               int64_t layers_total)
    : hooks_(hooks),
      backend_(backend),
      total_work_(std::max(total_work, 1e-9)),
      start_(Clock::now()),
      entered_(start_) {
  progress_.layers_total = layers_total;
}

void RunLog::Enter(const std::string& stage) {
  const Clock::time_point now = Clock::now();
  if (!progress_.stage.empty()) {
    const auto found = std::find_if(stages_.begin(), stages_.end(), [this](const StageTime& s) {
      return s.stage == progress_.stage;
    });
    found->seconds += std::chrono::duration<double>(now - entered_).count();
  }
  entered_ = now;
  progress_.stage = stage;
  if (std::none_of(stages_.begin(), stages_.end(),
                   [&stage](const StageTime& s) { return s.stage == stage; })) {
    stages_.push_back({stage, 0});
  }
}

absl::Status RunLog::Check() const { return hooks_.check ? hooks_.check() : absl::OkStatus(); }

absl::Status RunLog::Step(double work, const std::string& module, const std::string& message) {
  done_work_ += work;
  const double share = std::clamp(done_work_ / total_work_, 0.0, 1.0);
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  progress_.module = module;
  progress_.message = message;
  progress_.percent = std::max(progress_.percent, 100 * share);
  progress_.eta_seconds = share > 0.02 ? elapsed * (1 - share) / share : -1;
  progress_.peak_host_bytes = PeakResidentBytes();
  progress_.peak_device_bytes = 0;
  if (hooks_.on_progress) hooks_.on_progress(progress_);
  return Check();
}

std::vector<StageTime> RunLog::Stages() {
  Enter(progress_.stage);
  return stages_;
}

int64_t RunLog::peak_host_bytes() const { return PeakResidentBytes(); }

}  // namespace svdllm
