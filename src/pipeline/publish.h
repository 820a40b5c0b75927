// What stands beside the weights of an artifact, written and read back.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "job/spec.h"
#include "report/compression_json.h"

namespace svdllm {

// compression_report.json, README.md, report.html and, last, compression_manifest.json. Fills in
// what of `artifact` only the files know: the manifest's digest.
absl::Status WriteReports(const Checkpoint& source, const CompressSpec& spec,
                          const std::string& dir, const CompressResult& job,
                          ArtifactResult& artifact);

// NOT_FOUND where local directory dir holds no artifact of this job.
absl::StatusOr<OwnArtifact> ReadOwnArtifact(const std::string& dir, const std::string& job_id);

}  // namespace svdllm
