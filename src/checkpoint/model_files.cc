#include "checkpoint/model_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "checkpoint/side_files.h"
#include "formats/gguf.h"

namespace svdllm {
namespace {

constexpr size_t kMostListed = 5;
constexpr int64_t kMaxPointerBytes = 1024;

absl::Status NotFound(const std::string& path, std::string_view what) {
  return MakeError(absl::StatusCode::kNotFound, kModelNotFound, path + ": " + std::string(what));
}

absl::Status Corrupt(const std::string& path, std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   path + ": " + std::string(what));
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string Listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostListed); ++i) {
    text += (i > 0 ? ", " : "") + Printable(names[i]);
  }
  if (names.size() > kMostListed) {
    text += " and " + std::to_string(names.size() - kMostListed) + " more";
  }
  return text;
}

// Those of the names that begin and end so.
std::vector<std::string> Like(const std::vector<std::string>& names, std::string_view begin,
                              std::string_view end) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (name.starts_with(begin) && name.ends_with(end)) found.push_back(name);
  }
  return found;
}

constexpr char kAdapter[] =
    "a LoRA adapter (adapter_config.json) and no model: merge it into its base model first "
    "(PeftModel.merge_and_unload(), then save_pretrained())";
constexpr char kOtherFormat[] =
    " are the format of the model's authors, not Hugging Face's: download the files that are meant "
    "for transformers, or convert these with the script that transformers has for it";

// What a directory is, if it is no model: it has no config.json.
absl::Status NoConfig(const std::string& dir) {
  const std::vector<std::string> names = NamesIn(dir);
  const auto has = [&names](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const std::string missing = "config.json is missing";
  if (has("adapter_config.json")) return NotFound(dir, missing + "; this is " + kAdapter);
  std::vector<std::string> original = Like(names, "consolidated", "");
  if (has("params.json")) original.push_back("params.json");
  if (!original.empty()) return NotFound(dir, missing + "; " + Listed(original) + kOtherFormat);
  if (has("model_index.json")) {
    return NotFound(dir, missing + "; model_index.json is that of an image pipeline (diffusers)");
  }
  const std::vector<std::string> cached = Like(names, "models--", "");
  if (!cached.empty()) {
    return NotFound(dir, missing +
                             "; this is a hub cache of several models, give one of its "
                             "directories: " +
                             Listed(cached));
  }
  std::vector<std::string> below;
  for (const std::string& name : names) {
    if (Exists(dir + "/" + name + "/config.json")) below.push_back(name);
  }
  if (!below.empty()) {
    return NotFound(dir, missing + "; there is one in " + Listed(below) + ": give that directory");
  }
  return NotFound(dir, missing);
}

// The snapshot that a hub cache's directory of one model stands for.
absl::StatusOr<std::string> Snapshot(const std::string& dir) {
  std::vector<std::string> names;
  for (const std::string& name : NamesIn(dir + "/snapshots")) {
    if (IsDirectory(dir + "/snapshots/" + name)) names.push_back(name);
  }
  if (names.empty()) {
    return NotFound(dir,
                    "a hub cache's directory, and there is nothing in snapshots/: download "
                    "the model");
  }
  if (Exists(dir + "/refs/main")) {
    ASSIGN_OR_RETURN(std::string main, ReadModelFile(dir, "refs/main", kMaxPointerBytes));
    while (!main.empty() && main.back() <= ' ') main.pop_back();
    if (std::find(names.begin(), names.end(), main) == names.end()) {
      return NotFound(dir, "a hub cache's directory whose refs/main names the snapshot " +
                               Printable(main) + ", which is not there: download it, or give " +
                               "one of those in snapshots/: " + Listed(names));
    }
    return dir + "/snapshots/" + main;
  }
  if (names.size() > 1) {
    return NotFound(dir,
                    "a hub cache's directory without refs/main and with several snapshots: "
                    "give one of those in snapshots/: " +
                        Listed(names));
  }
  return dir + "/snapshots/" + names[0];
}

// What is wrong with a file that belongs to a model; empty where it can be read.
std::string_view ProblemOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || S_ISDIR(info.st_mode)) return "";
  if (!S_ISREG(info.st_mode)) return "not a regular file";
  if (info.st_size > kMaxPointerBytes) return "";
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxPointerBytes);
  return text.ok() && IsLfsPointer(*text) ? kLfsAdvice : "";
}

}  // namespace

absl::StatusOr<ModelPlace> FindModel(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return NotFound(path, "no such directory");
  ModelPlace place{path, std::nullopt};
  const bool is_directory = S_ISDIR(info.st_mode);
  if (is_directory && !Exists(path + "/config.json") && IsDirectory(path + "/snapshots")) {
    ASSIGN_OR_RETURN(place.path, Snapshot(path));
  }
  ASSIGN_OR_RETURN(place.gguf, GgufPathOf(place.path));
  if (place.gguf) return place;
  if (!is_directory) {
    return NotFound(path, path.ends_with(".safetensors")
                              ? "a file of weights, not a directory: give the directory in which "
                                "it lies beside its config.json"
                              : "not a directory, and no .gguf file");
  }
  if (!Exists(place.path + "/config.json")) return NoConfig(place.path);
  return place;
}

absl::StatusOr<std::string> ReadModelFile(const std::string& dir, const std::string& name,
                                          int64_t max_bytes) {
  absl::StatusOr<std::string> text = ReadFile(dir + "/" + name, max_bytes);
  if (absl::IsNotFound(text.status())) return NotFound(dir, name + " is missing");
  if (absl::IsInvalidArgument(text.status())) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     std::string(text.status().message()));
  }
  if (text.ok() && IsLfsPointer(*text)) return Corrupt(dir + "/" + name, kLfsAdvice);
  return text;
}

absl::Status NoWeights(const std::string& dir) {
  const std::vector<std::string> names = NamesIn(dir);
  const std::string missing = "model.safetensors and its index are both missing";
  std::vector<std::string> shards = Like(names, "model-", ".safetensors");
  std::erase_if(shards, [](const std::string& name) { return name.find("-of-") == name.npos; });
  if (!shards.empty()) {
    return NotFound(dir,
                    "model.safetensors.index.json is missing, which says what each of the "
                    "shards holds (" +
                        Listed(shards) + "): put it beside them");
  }
  const std::vector<std::string> original = Like(names, "consolidated", "");
  if (!original.empty()) return NotFound(dir, missing + "; " + Listed(original) + kOtherFormat);
  const std::vector<std::string> pickles = Like(names, "pytorch_model", "");
  if (!pickles.empty()) {
    return NotFound(dir, "only " +
                             std::string(pickles.size() == 1 ? pickles[0] : "pytorch_model.bin") +
                             " is here; pickles are not read: save the model with "
                             "save_pretrained(..., safe_serialization=True) first");
  }
  for (const auto& [begin, end, what] :
       {std::tuple("", ".gguf", "to read the GGUF file, give its path"),
        std::tuple("", ".safetensors", "weights are looked for under those names only"),
        std::tuple("tf_model", "", "TensorFlow's weights are not read"),
        std::tuple("flax_model", "", "Flax's weights are not read"),
        std::tuple("", ".pth", "pickles are not read"),
        std::tuple("", ".pt", "pickles are not read"),
        std::tuple("", ".onnx", "ONNX is not read")}) {
    const std::vector<std::string> others = Like(names, begin, end);
    if (!others.empty())
      return NotFound(dir, missing + "; there is " + Listed(others) + ": " + what);
  }
  return NotFound(dir, missing);
}

absl::Status CheckCompanions(const std::string& dir) {
  for (const std::string& name : NamesIn(dir)) {
    if (name == "adapter_config.json") {
      return Corrupt(dir,
                     "adapter_config.json: an adapter beside a whole model, which some loaders "
                     "add to it and others do not: merge it, or take it away");
    }
    if (!IsSideFileName(name)) continue;
    const std::string_view problem = ProblemOf(dir + "/" + name);
    if (!problem.empty()) return Corrupt(dir + "/" + Printable(name), problem);
  }
  return absl::OkStatus();
}

}  // namespace svdllm
