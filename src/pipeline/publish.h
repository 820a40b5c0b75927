// The weights of an artifact on their way into it, and what stands beside them, written and read
// back.
#pragma once

#include <string>

#include "artifact/writer.h"
#include "checkpoint/checkpoint.h"
#include "compress/context.h"
#include "job/spec.h"
#include "report/compression_json.h"

namespace svdllm {

// What writes the factors of one keep ratio into its artifact. writer outlives it.
FactorSink SinkOf(ArtifactWriter& writer);

// compression_report.json, README.md, report.html and, last, compression_manifest.json. Fills in
// what of `artifact` only the files know: the manifest's digest.
absl::Status WriteReports(const Checkpoint& source, const CompressSpec& spec,
                          const std::string& dir, const CompressResult& job,
                          ArtifactResult& artifact);

// NOT_FOUND where local directory dir holds no artifact of this job.
absl::StatusOr<OwnArtifact> ReadOwnArtifact(const std::string& dir, const std::string& job_id);

}  // namespace svdllm
