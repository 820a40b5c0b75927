#include "artifact/manifest.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/digest.h"
#include "base/files.h"
#include "base/json.h"

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kManifest[] = "compression_manifest.json";

// Paths below dir, sorted.
std::vector<std::string> FilesOf(const std::string& dir) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_directory(error)) names.push_back(it->path().native().substr(dir.size() + 1));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

absl::StatusOr<std::string> WriteManifest(const std::string& dir, const std::string& job_id) {
  Json files = Json::object();
  for (const std::string& name : FilesOf(dir)) {
    if (name == kManifest) continue;
    ASSIGN_OR_RETURN(const FileDigest digest, DigestOfFile(dir + "/" + name));
    files[name] = {{"sha256", digest.sha256}, {"bytes", digest.bytes}};
  }
  const Json manifest = {{"format_version", 1},
                         {"created_by", std::string("svdllm ") + SVDLLM_VERSION},
                         {"job", job_id},
                         {"files", std::move(files)}};
  const std::string text = manifest.dump(2) + "\n";
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/" + kManifest, text));
  return Sha256(text);
}

absl::StatusOr<std::string> OwnManifest(const std::string& dir, const std::string& job_id) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(dir + "/" + kManifest, 1 << 24));
  const absl::StatusOr<nlohmann::json> manifest = ParseJson(text);
  if (!manifest.ok() || !manifest->is_object() || !manifest->contains("job") ||
      (*manifest)["job"] != job_id) {
    return absl::NotFoundError(dir + ": not published by job " + job_id);
  }
  return Sha256(text);
}

}  // namespace svdllm
