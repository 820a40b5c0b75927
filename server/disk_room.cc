#include "server/disk_room.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "base/files.h"
#include "base/format.h"
#include "pipeline/plan.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

constexpr char kReservation[] = "reserved";
constexpr char kStagingPrefix[] = ".staging-";  // as storage/file_store.cc names what it stages

struct Room {
  int64_t free = 0, size = 0;
  dev_t device = 0;
};

// Of the volume that a directory is on, or will be.
absl::StatusOr<Room> RoomAt(std::string dir) {
  while (dir.size() > 1 && !Exists(dir)) dir = fs::path(dir).parent_path().string();
  struct statvfs volume {};
  struct stat info {};
  if (statvfs(dir.c_str(), &volume) != 0 || stat(dir.c_str(), &info) != 0) {
    return ErrnoToStatus(errno, "look at", dir);
  }
  const auto block = static_cast<int64_t>(volume.f_frsize);
  return Room{block * static_cast<int64_t>(volume.f_bavail),
              block * static_cast<int64_t>(volume.f_blocks), info.st_dev};
}

int64_t BytesBelow(const std::string& dir) {
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir, error); !error && it != end(it);
       it.increment(error)) {
    std::error_code ignored;
    if (it->is_regular_file(ignored)) bytes += static_cast<int64_t>(it->file_size(ignored));
  }
  return bytes;
}

// Of all that an attempt has staged.
int64_t StagedBytes(const std::string& artifact_root, const std::string& attempt) {
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(artifact_root, error); !error && it != end(it);
       it.increment(error)) {
    std::error_code ignored;
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kStagingPrefix) || !it->is_directory(ignored)) continue;
    it.disable_recursion_pending();
    if (name.ends_with("-" + attempt)) bytes += BytesBelow(it->path().string());
  }
  return bytes;
}

int64_t TokenOf(const std::string& attempt) {
  int64_t token = 0;
  const size_t dot = attempt.find('.');
  const size_t begin = dot == std::string::npos ? attempt.size() : dot + 1;
  std::from_chars(attempt.data() + begin, attempt.data() + attempt.size(), token);
  return token;
}

// What the running attempts that were claimed before this one have yet to write.
DiskNeeds YetToCome(const JobVolumes& volumes, const std::string& attempt) {
  DiskNeeds sum;
  std::error_code error;
  for (fs::directory_iterator it(volumes.work_root, error); !error && it != end(it);
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    DiskNeeds other;
    std::ifstream file(it->path() / kReservation);
    if (TokenOf(name) >= TokenOf(attempt)) continue;
    if (!(file >> other.work_bytes >> other.output_bytes)) continue;
    sum.work_bytes += std::max<int64_t>(other.work_bytes - BytesBelow(it->path().string()), 0);
    sum.output_bytes +=
        std::max<int64_t>(other.output_bytes - StagedBytes(volumes.artifact_root, name), 0);
  }
  return sum;
}

// What is to be compared with one volume.
struct Demand {
  std::string dir;
  Room room;
  int64_t bytes = 0, taken = 0;
};

absl::StatusOr<std::vector<Demand>> Demands(const DiskNeeds& needs, const DiskNeeds& taken,
                                            const JobVolumes& volumes) {
  std::vector<Demand> demands;
  const auto add = [&demands](const std::string& dir, int64_t bytes,
                              int64_t taken) -> absl::Status {
    if (dir.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const Room room, RoomAt(dir));
    for (Demand& demand : demands) {
      if (demand.room.device != room.device) continue;
      demand.bytes += bytes;
      demand.taken += taken;
      return absl::OkStatus();
    }
    demands.push_back({dir, room, bytes, taken});
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add(volumes.artifact_root, needs.output_bytes, taken.output_bytes));
  RETURN_IF_ERROR(add(volumes.work_root, needs.work_bytes, taken.work_bytes));
  return demands;
}

std::string Figures(const Demand& demand) {
  std::string text = "the job writes " + Bytes(demand.bytes) + " on the volume of " + demand.dir +
                     ", where " + Bytes(demand.room.free) + " of " + Bytes(demand.room.size) +
                     " are free";
  if (demand.taken > 0) text += ", and " + Bytes(demand.taken) + " of these are other jobs'";
  return text;
}

absl::Status Full(const Demand& demand) {
  return WithOffender(
      MakeError(absl::StatusCode::kResourceExhausted, kScratchFull, Figures(demand)), "path",
      demand.dir);
}

}  // namespace

DiskNeeds NeedsOf(const CompressPlan& plan) {
  DiskNeeds needs;
  for (const ArtifactPlan& artifact : plan.artifacts) needs.output_bytes += artifact.weight_bytes;
  const auto artifacts = static_cast<int64_t>(plan.artifacts.size());
  // The plan's sum has room for an artifact's other files, which are seldom as large.
  needs.work_bytes = std::max<int64_t>(
      plan.scratch_bytes - needs.output_bytes - artifacts * kArtifactSideBytes, 0);
  return needs;
}

absl::StatusOr<std::string> CheckVolumes(const DiskNeeds& needs, const JobVolumes& volumes) {
  std::string warning;
  ASSIGN_OR_RETURN(const std::vector<Demand> demands, Demands(needs, {}, volumes));
  for (const Demand& demand : demands) {
    if (demand.bytes > demand.room.size) return Full(demand);
    if (demand.bytes > demand.room.free) warning = Figures(demand);
  }
  return warning;
}

absl::Status ReserveRoom(const DiskNeeds& needs, const JobVolumes& volumes,
                         const std::string& attempt) {
  // First, so that of two that begin together one sees the other.
  const std::string path = volumes.work_root + "/" + attempt + "/" + kReservation;
  RETURN_IF_ERROR(WriteFileAtomic(
      path, std::to_string(needs.work_bytes) + " " + std::to_string(needs.output_bytes) + "\n"));
  ASSIGN_OR_RETURN(const std::vector<Demand> demands,
                   Demands(needs, YetToCome(volumes, attempt), volumes));
  for (const Demand& demand : demands) {
    if (demand.bytes > demand.room.free - demand.taken) return Full(demand);
  }
  return absl::OkStatus();
}

}  // namespace svdllm
