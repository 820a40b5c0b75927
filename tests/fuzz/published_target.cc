// Manifests and reports of an output directory, which are read back where an earlier attempt of the
// job may have published there.
#include <nlohmann/json.hpp>

#include "artifact/manifest.h"
#include "pipeline/publish.h"
#include "report/evaluation_json.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

constexpr char kJob[] = "j";

void CheckText(const absl::Status& status) {
  if (!status.ok()) CheckErrorText({status.message().data(), status.message().size()});
}

void Run(std::string_view bytes) {
  static FuzzDirectory directory;
  const std::string& dir = directory.Fill(bytes, "compression_manifest.json");
  const auto manifest = OwnManifest(dir, kJob);
  CheckText(manifest.status());
  CheckText(ReadOwnArtifact(dir, kJob).status());
  CheckText(ReadOwnEvaluation(dir, kJob).status());
}

}  // namespace

FuzzTarget PublishedTarget() {
  const std::string manifest = R"({"job": "j", "files": []})";
  const std::string figures =
      R"("perplexities": [{"name": "t", "perplexity": 5.5, "predicted_tokens": 9, "windows": 1,)"
      R"( "leftover_tokens": 0, "seconds": 0.1, "tokens_per_second": 9, "held_out": false,)"
      R"( "seq_len": 8, "data": {"uri": "u", "sha256": "00", "bytes": 7}}], "tasks": [],)"
      R"( "throughputs": [])";
  const std::string sides = R"("parameters": 9, "target_parameters": 5, "weight_bytes": 36, )";
  return {
      "published",
      Run,
      {manifest + "\n=== compression_report.json\n{\"before\": {" + sides + figures +
           R"(}, "calibration": {"sequences": 1, "tokens": 9, "seq_len": 9, "files": []},)" +
           R"( "keep_ratio": 0.5, "after": {)" + sides + figures +
           R"(}, "comparisons": [], "warnings": ["w"], "matrices": [{"name": "m", "rows": 2,)" +
           R"( "cols": 2, "rank": 1, "relative_loss": 0, "optimum_loss": 0,)" +
           R"( "rounding_excess": 0, "spectrum": [1.5]}]})",
       manifest + "\n=== evaluation_report.json\n{\"model\": {\"uri\": \"u\", " + sides + figures +
           R"(}, "peak_host_bytes": 7, "device": "cpu", "warnings": [], "started": "s"})",
       manifest, R"({"job": "k"})"},
      {"{",
       "}",
       "[",
       "]",
       "\"",
       ",",
       ":",
       "null",
       "true",
       "-1",
       "1e400",
       "\"before\"",
       "\"after\"",
       "\"calibration\"",
       "\"verdict\"",
       "\"matrices\"",
       "\"baseline\"",
       "\"comparisons\"",
       "\"job\": \"j\"",
       "\n=== compression_report.json\n",
       "\n=== evaluation_report.json\n",
       "[[[[[[[[",
       "{\"a\":{\"a\":",
       "\xff"}};
}

}  // namespace svdllm::testing
