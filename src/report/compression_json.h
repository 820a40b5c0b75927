// compression_report.json: what a job measured, for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "checkpoint/checkpoint.h"
#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

nlohmann::ordered_json ReportJson(const Checkpoint& source, const CompressSpec& spec,
                                  const CompressResult& job, const ArtifactResult& artifact);
// An artifact that an earlier attempt of a job published before it died.
struct OwnArtifact {
  ArtifactResult artifact;     // its uri is left empty
  Figures before;              // of the dense model
  CalibrationUse calibration;  // its files are called by their names alone
};

// The artifact's part of a report, read back. MODEL_CORRUPT where it is not one of ours.
absl::StatusOr<OwnArtifact> ArtifactFromReport(const nlohmann::ordered_json& report);

}  // namespace svdllm
