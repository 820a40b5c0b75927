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

// Makes the sink that writes the factors of one keep ratio into its artifact. The writer outlives
// it.
FactorSink SinkOf(ArtifactWriter& writer);

// Writes compression_report.json, README.md, report.html and, last, compression_manifest.json. The
// manifest's digest, which only the files know, goes into `artifact`.
absl::Status WriteReports(const Checkpoint& source, const CompressSpec& spec,
                          const std::string& dir, const CompressResult& job,
                          ArtifactResult& artifact);

// Reads what an earlier attempt of this job published in the local directory `dir`. NOT_FOUND where
// no artifact of this job is there.
absl::StatusOr<OwnArtifact> ReadOwnArtifact(const std::string& dir, const std::string& job_id);

}  // namespace svdllm
