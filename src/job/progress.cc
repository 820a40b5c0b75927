#include "job/progress.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

namespace svdllm {

namespace {

// A worker runs many jobs: each starts from what the process cannot give back, and the kernel's
// high-water mark starts anew.
void ResetPeakResidentBytes() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace

int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return int64_t{1024} * std::atoll(line.c_str() + 6);
  }
  return 0;
}

Progress::Progress(const RunHooks& hooks, double total_work, int64_t layers_total, Backend* backend)
    : hooks_(hooks),
      backend_(backend != nullptr && backend->OnDevice() ? backend : nullptr),
      start_(Clock::now()),
      entered_(start_) {
  Expect(total_work);
  progress_.layers_total = layers_total;
  ResetPeakResidentBytes();
  if (backend_ != nullptr) backend_->ResetPeak();
}

void Progress::Expect(double total_work) { total_work_ = std::max(total_work, 1e-9); }

void Progress::Enter(const std::string& stage) {
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

void Progress::Skip(double work) {
  done_work_ += work;
  skipped_work_ += work;
}

absl::Status Progress::Kept() const { return hooks_.kept ? hooks_.kept() : absl::OkStatus(); }

absl::Status Progress::Check() const { return hooks_.check ? hooks_.check() : absl::OkStatus(); }

absl::Status Progress::Step(double work, const std::string& module, const std::string& message) {
  done_work_ += work;
  const double share = std::clamp(done_work_ / total_work_, 0.0, 1.0);
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  progress_.module = module;
  progress_.message = message;
  progress_.percent = std::max(progress_.percent, 100 * share);
  const double own = share - std::clamp(skipped_work_ / total_work_, 0.0, share);
  progress_.eta_seconds = own > 0.02 ? elapsed * (1 - share) / own : -1;
  progress_.peak_host_bytes = PeakResidentBytes();
  progress_.peak_device_bytes = PeakDeviceBytes();
  if (hooks_.on_progress) hooks_.on_progress(progress_);
  return Check();
}

void Progress::Done() {
  progress_.module.clear();
  progress_.message = "done";
  progress_.percent = 100;
  progress_.eta_seconds = -1;
  progress_.peak_host_bytes = PeakResidentBytes();
  progress_.peak_device_bytes = PeakDeviceBytes();
  if (hooks_.on_progress) hooks_.on_progress(progress_);
}

int64_t Progress::PeakDeviceBytes() {
  if (backend_ == nullptr) return 0;
  // A measurement within the job may begin the backend's peak anew.
  progress_.peak_device_bytes = std::max(progress_.peak_device_bytes, backend_->Memory().peak);
  return progress_.peak_device_bytes;
}

std::vector<StageTime> Progress::Stages() {
  Enter(progress_.stage);
  return stages_;
}

}  // namespace svdllm
