#include "queue/job.h"

#include <time.h>

#include <chrono>
#include <fstream>
#include <random>

#include "base/digest.h"
#include "base/status.h"
#include "base/utf8.h"

namespace svdllm {

std::string_view JobStateName(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kCancelling:
      return "CANCELLING";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
    case JobState::kCancelled:
      return "CANCELLED";
  }
  return "UNKNOWN";
}

std::string_view JobKindName(JobKind kind) {
  switch (kind) {
    case JobKind::kCompressModel:
      return "COMPRESS_MODEL";
    case JobKind::kEvaluate:
      return "EVALUATE";
  }
  return "UNKNOWN";
}

JobError ToJobError(const absl::Status& status) {
  JobError error{status.code(), ErrorReason(status),
                 Shortened({status.message().data(), status.message().size()}, kMaxRecordedBytes)};
  if (error.reason.empty()) error.reason = kInternal;
  return error;
}

int64_t WallMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

int64_t BootMs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

int64_t BootNumber() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return std::stoll(Sha256(id).substr(0, 15), nullptr, 16);
}

std::string NewJobId() {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  int64_t ms = WallMs();
  std::string id(21, '0');
  for (int i = 8; i >= 0; --i, ms /= 36) id[static_cast<size_t>(i)] = kDigits[ms % 36];
  std::random_device random;
  std::uniform_int_distribution<int> digit(0, 35);
  for (size_t i = 9; i < id.size(); ++i) id[i] = kDigits[digit(random)];
  return id;
}

}  // namespace svdllm
