#include "checkpoint/side_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/files.h"
#include "base/json.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxBytes = int64_t{16} << 20;          // of a file that is no tokenizer's
constexpr int64_t kMaxTokenizerBytes = int64_t{1} << 30;  // what the tokenizers read
constexpr int64_t kMaxTogether = int64_t{64} << 20;       // of all that are no tokenizer's
constexpr char kTemplates[] = "additional_chat_templates";

std::string Lower(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// From the last dot on; empty where there is none.
std::string_view ExtensionOf(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == name.npos ? std::string_view() : name.substr(dot);
}

template <size_t kCount>
bool IsOneOf(std::string_view name, const std::string_view (&names)[kCount]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

template <size_t kCount>
bool BeginsWithOneOf(std::string_view name, const std::string_view (&fronts)[kCount]) {
  return std::any_of(std::begin(fronts), std::end(fronts),
                     [name](std::string_view front) { return name.starts_with(front); });
}

constexpr std::string_view kTokenizers[] = {"tokenizer",          "vocab",       "merges", "tekken",
                                            "special_tokens_map", "added_tokens"};

class Lister {
 public:
  explicit Lister(const std::string& dir) : dir_(dir) {
    std::error_code error;
    root_ = fs::canonical(dir, error);
    // ROOT/snapshots/REVISION of a hub cache holds links to ROOT/blobs.
    if (root_.parent_path().filename() == "snapshots") {
      blobs_ = root_.parent_path().parent_path() / "blobs";
    }
  }

  // The files of dir_/below, which is the directory itself where empty.
  absl::Status Add(const std::string& below, bool (*is_one)(std::string_view name)) {
    const std::string dir = below.empty() ? dir_ : dir_ + "/" + below;
    for (const std::string& name : NamesIn(dir)) {
      if (!is_one(name)) continue;
      RETURN_IF_ERROR(AddOne(below.empty() ? name : below + "/" + name));
    }
    return absl::OkStatus();
  }

  std::vector<SideFile> Take() {
    // Small ones first: a licence must not be lost to a training log.
    std::sort(files_.begin(), files_.end(), [](const SideFile& a, const SideFile& b) {
      return std::pair(a.bytes, a.name) < std::pair(b.bytes, b.name);
    });
    int64_t together = 0;
    std::erase_if(files_, [&together](const SideFile& file) {
      if (BeginsWithOneOf(file.name, kTokenizers)) return false;
      together += file.bytes;
      return together > kMaxTogether;
    });
    std::sort(files_.begin(), files_.end(),
              [](const SideFile& a, const SideFile& b) { return a.name < b.name; });
    return std::move(files_);
  }

 private:
  absl::Status AddOne(const std::string& name) {
    const fs::path path = dir_ + "/" + name;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) return absl::OkStatus();
    if (!fs::exists(status)) return Corrupt(name, "a link to nothing");
    if (!fs::is_regular_file(status)) return Corrupt(name, "not a regular file");
    const fs::path real = fs::canonical(path, error);
    if (error || (!IsBelow(real, root_) && (blobs_.empty() || !IsBelow(real, blobs_)))) {
      return Corrupt(name,
                     "a link out of the model's directory, which is not followed: put the "
                     "file itself there");
    }
    const auto bytes = static_cast<int64_t>(fs::file_size(real, error));
    if (error) return Corrupt(name, error.message());
    const int64_t limit = BeginsWithOneOf(name, kTokenizers) ? kMaxTokenizerBytes : kMaxBytes;
    if (bytes <= limit) files_.push_back({name, real.native(), bytes});
    return absl::OkStatus();
  }

  absl::Status Corrupt(const std::string& name, const std::string& what) const {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     dir_ + "/" + Printable(name) + ": " + what);
  }

  // Both canonical.
  static bool IsBelow(const fs::path& path, const fs::path& dir) {
    return std::mismatch(dir.begin(), dir.end(), path.begin(), path.end()).first == dir.end();
  }

  const std::string dir_;
  fs::path root_, blobs_;
  std::vector<SideFile> files_;
};

bool IsTemplateName(std::string_view name) { return ExtensionOf(Lower(name)) == ".jinja"; }

}  // namespace

bool IsSideFileName(std::string_view given) {
  const std::string name = Lower(given);
  constexpr std::string_view kOthers[] = {
      // The artifact's own, and what describes weights that are not carried over.
      "config.json",
      "readme.md",
      "compression_manifest.json",
      "compression_report.json",
      "evaluation_report.json",
      "params.json",
      "adapter_config.json"};
  constexpr std::string_view kCodeAndWeights[] = {".py",          ".so",   ".sh",     ".bin",
                                                  ".safetensors", ".gguf", ".pt",     ".pth",
                                                  ".onnx",        ".h5",   ".msgpack"};
  constexpr std::string_view kTexts[] = {"", ".json", ".txt", ".md", ".jinja", ".model"};
  constexpr std::string_view kLicences[] = {"license", "licence", "notice", "copying", "copyright"};
  if (name.empty() || name[0] == '.' || IsOneOf(name, kOthers)) return false;
  const std::string_view extension = ExtensionOf(name);
  if (IsOneOf(extension, kCodeAndWeights) || name.ends_with(".index.json")) return false;
  return IsOneOf(extension, kTexts) || name.starts_with("tokenizer.") ||
         BeginsWithOneOf(name, kLicences);
}

absl::StatusOr<std::vector<SideFile>> SideFilesOf(const std::string& dir) {
  Lister lister(dir);
  RETURN_IF_ERROR(lister.Add("", IsSideFileName));
  RETURN_IF_ERROR(lister.Add(kTemplates, IsTemplateName));
  return lister.Take();
}

}  // namespace svdllm
