#include "pipeline/publish.h"

#include <nlohmann/json.hpp>

#include "artifact/manifest.h"
#include "base/files.h"
#include "base/json.h"
#include "report/figures_json.h"
#include "report/page.h"

namespace svdllm {

namespace {

using Json = nlohmann::ordered_json;
constexpr char kReport[] = "compression_report.json";

}  // namespace

FactorSink SinkOf(ArtifactWriter& writer) {
  return {writer.ranks(), [&writer](size_t linear, const StoredFactors& stored) {
            return stored.weight.empty()
                       ? writer.WriteFactors(linear, stored.a, stored.b, stored.order)
                       : writer.WriteDense(linear, stored.weight);
          }};
}

absl::Status WriteReports(const Checkpoint& source, const CompressSpec& spec,
                          const std::string& dir, const CompressResult& job,
                          ArtifactResult& artifact) {
  RETURN_IF_ERROR(
      WriteFileAtomic(dir + "/" + kReport, ToText(ReportJson(source, spec, job, artifact))));
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/README.md", ModelCard(source, spec, job, artifact)));
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/report.html", CompressionHtml(spec, job, artifact)));
  ASSIGN_OR_RETURN(artifact.manifest_sha256, WriteManifest(dir, spec.job_id));
  return absl::OkStatus();
}

absl::StatusOr<OwnArtifact> ReadOwnArtifact(const std::string& dir, const std::string& job_id) {
  ASSIGN_OR_RETURN(std::string manifest_sha256, OwnManifest(dir, job_id));
  ASSIGN_OR_RETURN(const std::string report, ReadFile(dir + "/" + kReport, int64_t{1} << 30));
  const absl::StatusOr<nlohmann::json> parsed = ParseJson(report);
  ASSIGN_OR_RETURN(OwnArtifact own, ArtifactFromReport(parsed.ok() ? Json(*parsed) : Json()));
  own.artifact.manifest_sha256 = std::move(manifest_sha256);
  return own;
}

}  // namespace svdllm
