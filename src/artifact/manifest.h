// compression_manifest.json: every file of a published directory with its digest, and the job that
// made it.
#pragma once

#include <string>

#include "base/status.h"

namespace svdllm {

// Writes it, as the last file, and returns its own SHA-256.
absl::StatusOr<std::string> WriteManifest(const std::string& dir, const std::string& job_id);

// Returns the SHA-256 of what an earlier attempt of this job published. NOT_FOUND where it
// published nothing.
absl::StatusOr<std::string> OwnManifest(const std::string& dir, const std::string& job_id);

}  // namespace svdllm
