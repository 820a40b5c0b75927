// Whether a job finds room on the disks that it writes to, asked before it starts: a full disk
// would end it after hours.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "job/plan.h"

namespace svdllm {

// Where jobs write. An empty one is not looked at.
struct JobVolumes {
  std::string work_root;      // attempts' work directories
  std::string artifact_root;  // what is on its way to be published, and what is
};

// What a job writes, at the least: it surely does not fit where there is less.
struct DiskNeeds {
  int64_t work_bytes = 0;
  int64_t output_bytes = 0;
};
DiskNeeds NeedsOf(const CompressPlan& plan);

// SCRATCH_FULL, with the figures, where the volumes are too small for a job even when empty. A
// warning where there is not enough room now, which other jobs may make; empty: there is enough.
absl::StatusOr<std::string> CheckVolumes(const DiskNeeds& needs, const JobVolumes& volumes);

// Reserves room for an attempt in its work directory, work_root/attempt, which is there. attempt
// begins with "JOB.TOKEN". SCRATCH_FULL, with the figures, where what is free, less what the
// running attempts before it have reserved and not written yet, is not enough.
absl::Status ReserveRoom(const DiskNeeds& needs, const JobVolumes& volumes,
                         const std::string& attempt);

}  // namespace svdllm
