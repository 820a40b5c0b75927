#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "base/json.h"
#include "base/logging.h"
#include "storage/artifact_store.h"
#include "storage/local_path.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStagingPrefix = ".staging-";
constexpr char kManifest[] = "compression_manifest.json";
// Of an error's text.
constexpr size_t kMaxRoots = 16;
constexpr int64_t kMaxManifestBytes = 1 << 24;

// The same error under the reason that tells a caller which field to correct.
absl::Status WithReason(const absl::Status& status, std::string_view reason) {
  const absl::string_view message = status.message();
  return MakeError(status.code(), reason, {message.data(), message.size()});
}

std::string Text(absl::string_view text) { return std::string(text.data(), text.size()); }

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// A name that is one path component, whatever the text.
std::string AsComponent(std::string text) {
  for (char& c : text) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
    if (!plain) c = '_';
  }
  if (text.empty() || text[0] == '.') text.insert(0, 1, '_');
  return text;
}

// The nearest directory that is there: dir itself, or the one that it would be made in.
std::string ExistingDir(std::string dir) {
  while (dir != "/" && !Exists(dir)) dir = ParentOf(dir);
  return dir;
}

// In front of the tokens of all that is staged for a target. Names that leave no room for a token
// are shortened.
std::string StagingPrefix(const std::string& target) {
  const std::string name = NameOf(target);
  return std::string(kStagingPrefix) + (name.size() > 64 ? Sha256(name).substr(0, 16) : name) + "-";
}

// Absent, or a directory without entries, which a rename replaces atomically.
bool IsFree(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) return true;
  return !error && fs::is_directory(status) && fs::is_empty(path, error) && !error;
}

absl::Status OutputExists(const std::string& path) {
  return MakeError(absl::StatusCode::kAlreadyExists, kOutputExists,
                   UriOfPath(path) + ": something is there already; it is never overwritten");
}

// A full or failing disk keeps its reason; whatever else stops us from writing is the output's
// fault.
absl::Status CannotWrite(const std::error_code& error, const std::string& path) {
  const absl::Status status = ErrnoToStatus(error.value(), "create", path);
  if (!ErrorReason(status).empty()) return status;
  return MakeError(absl::StatusCode::kPermissionDenied, kOutputInvalid,
                   "output cannot be written: " + Text(status.message()));
}

// Every file and directory below dir, and dir itself.
absl::Status SyncTree(const std::string& dir) {
  std::error_code error;
  fs::recursive_directory_iterator it(dir, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const fs::file_status status = it->symlink_status(error);
    if (error) break;
    if (!fs::is_regular_file(status) && !fs::is_directory(status)) {
      return absl::FailedPreconditionError(it->path().string() +
                                           ": an artifact holds files and directories only");
    }
    RETURN_IF_ERROR(SyncPath(it->path().string()));
  }
  if (error) return ErrnoToStatus(error.value(), "list", dir);
  return SyncPath(dir);
}

// Removes the entries of a directory whose names are chosen, with all that is in them.
template <typename Chosen>
void RemoveEntries(const std::string& dir, const Chosen& chosen) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::directory_iterator it(dir, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (chosen(it->path().filename().string())) paths.push_back(it->path());
  }
  for (const fs::path& path : paths) fs::remove_all(path, error);
}

// The files of an artifact whose manifest has this digest, the manifest first. NOT_FOUND where it
// is another, or none.
absl::StatusOr<std::vector<std::string>> FilesOf(const std::string& dir,
                                                 const std::string& manifest_sha256) {
  const absl::StatusOr<std::string> text = ReadFile(dir + "/" + kManifest, kMaxManifestBytes);
  if (!text.ok() || Sha256(*text) != manifest_sha256) {
    return absl::NotFoundError(UriOfPath(dir) + ": what was published is not there any more");
  }
  std::vector<std::string> files = {kManifest};
  const absl::StatusOr<nlohmann::json> manifest = ParseJson(*text);
  if (!manifest.ok() || !manifest->is_object() || !manifest->contains("files")) return files;
  for (const auto& [name, entry] : (*manifest)["files"].items()) files.push_back(name);
  return files;
}

// Whether a directory has entries beside these files and the directories that they are in.
bool HoldsMore(const std::string& dir, const std::vector<std::string>& files) {
  std::error_code error;
  fs::recursive_directory_iterator it(dir, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored) && !it->is_symlink(ignored)) continue;
    const std::string name = it->path().native().substr(dir.size() + 1);
    if (std::find(files.begin(), files.end(), name) == files.end()) return true;
  }
  return static_cast<bool>(error);
}

// The first file is the manifest: without it, no artifact.
absl::Status RemoveFiles(const std::string& dir, const std::vector<std::string>& files) {
  for (const std::string& name : files) {
    const std::string path = dir + "/" + name;
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, "remove", path);
    for (std::string at = ParentOf(path); at != dir && rmdir(at.c_str()) == 0;) at = ParentOf(at);
  }
  return SyncPath(dir);
}

// Directories that are missing on the way to a target. Those that it made go again, unless what
// they were made for is there.
class Way {
 public:
  Way() = default;
  Way(const Way&) = delete;
  Way& operator=(const Way&) = delete;
  ~Way() {
    // From the inside out; one that somebody else uses meanwhile has entries and stays.
    while (!made_.empty() && !kept_) {
      rmdir(made_.back().c_str());
      made_.pop_back();
    }
  }
  absl::Status Make(const std::string& dir) {
    std::vector<std::string> missing;
    for (std::string at = dir; at != "/" && !Exists(at); at = ParentOf(at)) missing.push_back(at);
    for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
      if (mkdir(at->c_str(), 0755) == 0) {
        made_.push_back(*at);
      } else if (errno != EEXIST) {
        return CannotWrite(std::error_code(errno, std::generic_category()), *at);
      }
    }
    return absl::OkStatus();
  }
  void Keep() { kept_ = true; }

 private:
  std::vector<std::string> made_;
  bool kept_ = false;
};

class FileStore : public ArtifactStore {
 public:
  FileStore(std::vector<std::string> input_roots, std::string artifact_root)
      : input_roots_(std::move(input_roots)), artifact_root_(std::move(artifact_root)) {}

  absl::StatusOr<std::string> ResolveInput(const std::string& uri) const override {
    ASSIGN_OR_RETURN(const std::string path, InputPath(uri));
    return UriOfPath(path);
  }

  absl::StatusOr<std::string> ResolveOutput(const std::string& uri) const override {
    ASSIGN_OR_RETURN(const std::string path, OutputPath(uri));
    return UriOfPath(path);
  }

  std::string DefaultOutput(const std::string& job_id) const override {
    return UriOfPath(artifact_root_ + "/" + AsComponent(job_id));
  }

  absl::StatusOr<std::string> Fetch(const std::string& uri, const std::string&) const override;
  absl::StatusOr<std::string> Stage(const std::string& uri, const std::string& token) override;
  absl::Status Commit(const std::string& staging_dir, const std::string& uri) override;
  void Discard(const std::string& staging_dir) override;
  absl::Status Remove(const std::string& uri, const std::string& manifest_sha256) override;
  int DiscardLost(
      const std::function<bool(const std::string& owner, int64_t attempt)>& is_current) override;

 private:
  absl::StatusOr<std::string> InputPath(const std::string& uri) const;
  absl::StatusOr<std::string> OutputPath(const std::string& uri) const;
  bool IsAllowedInput(const std::string& path) const;
  // The directories that inputs may lie under, for people.
  std::string Roots() const;
  // Makes the entries of every directory from dir up to the root durable.
  absl::Status SyncUpwards(std::string dir) const;

  const std::vector<std::string> input_roots_;  // canonical; empty: anywhere
  const std::string artifact_root_;             // canonical
};

bool FileStore::IsAllowedInput(const std::string& path) const {
  if (input_roots_.empty()) return true;
  for (const std::string& root : input_roots_) {
    if (IsWithin(path, root)) return true;
  }
  return false;
}

std::string FileStore::Roots() const {
  std::string roots;
  for (size_t i = 0; i < input_roots_.size() && i < kMaxRoots; ++i) {
    roots += (i == 0 ? "" : ", ") + input_roots_[i];
  }
  return input_roots_.size() > kMaxRoots ? roots + " and others" : roots;
}

absl::StatusOr<std::string> FileStore::InputPath(const std::string& uri) const {
  absl::StatusOr<std::string> path = PathOfUri(uri, "");
  if (path.ok()) path = CanonicalPath(*path);
  if (!path.ok()) return WithReason(path.status(), kInvalidField);
  if (!IsAllowedInput(*path)) {
    return MakeError(absl::StatusCode::kPermissionDenied, kInvalidField,
                     uri + ": outside the directories from which models may be read: " + Roots());
  }
  return path;
}

absl::StatusOr<std::string> FileStore::OutputPath(const std::string& uri) const {
  absl::StatusOr<std::string> path = PathOfUri(uri, artifact_root_);
  if (path.ok()) path = CanonicalPath(*path);
  if (!path.ok()) return WithReason(path.status(), kOutputInvalid);
  if (!IsWithin(*path, artifact_root_) || *path == artifact_root_) {
    return MakeError(absl::StatusCode::kPermissionDenied, kOutputInvalid,
                     uri + ": not below the artifact root");
  }
  if (path->find("/" + std::string(kStagingPrefix), artifact_root_.size()) != std::string::npos) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, kOutputInvalid,
        uri + ": names that begin with " + std::string(kStagingPrefix) + " are reserved");
  }
  return path;
}

absl::StatusOr<std::string> FileStore::Fetch(const std::string& uri, const std::string&) const {
  ASSIGN_OR_RETURN(const std::string path, InputPath(uri));
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return absl::NotFoundError(uri + ": no such file or directory");
    return ErrnoToStatus(errno, "read", path);
  }
  if (S_ISREG(info.st_mode)) return path;
  if (!S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(uri + ": neither a file nor a directory");
  }
  // Links inside the directory are welcome (download caches are made of them), but not as a way
  // out.
  std::error_code error;
  fs::directory_iterator it(path, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    std::error_code not_a_link;
    if (input_roots_.empty() || !it->is_symlink(not_a_link)) continue;
    const absl::StatusOr<std::string> target = CanonicalPath(it->path().string());
    if (!target.ok() || !IsAllowedInput(*target)) {
      return MakeError(
          absl::StatusCode::kPermissionDenied, kInvalidField,
          uri + ": " + it->path().filename().string() +
              ": a symbolic link out of the directories from which models may be read");
    }
  }
  if (error) return ErrnoToStatus(error.value(), "list", path);
  return path;
}

absl::StatusOr<std::string> FileStore::Stage(const std::string& uri, const std::string& token) {
  ASSIGN_OR_RETURN(const std::string target, OutputPath(uri));
  const std::string parent = ParentOf(target);
  for (std::string dir = parent; dir.size() > artifact_root_.size(); dir = ParentOf(dir)) {
    if (Exists(dir + "/" + kManifest)) {
      return MakeError(absl::StatusCode::kInvalidArgument, kOutputInvalid,
                       uri + ": inside the published artifact " + UriOfPath(dir));
    }
  }
  if (!IsFree(target)) return OutputExists(target);

  const std::string component = AsComponent(token);
  const std::string prefix = StagingPrefix(target);
  // Nothing is made on the way to the target before something is published there. In front of what
  // is missing of the way is the same file system, so that a rename reaches the target.
  const std::string staging = ExistingDir(parent) + "/" + prefix + component;
  // What earlier attempts of the same owner left behind, when less of the way was there. One that
  // still runs fails at its next file.
  const std::string owner = prefix + component.substr(0, component.rfind('.')) + ".";
  for (std::string dir = ParentOf(staging); IsWithin(dir, artifact_root_); dir = ParentOf(dir)) {
    RemoveEntries(dir, [&](const std::string& name) {
      return name == prefix + component || name.starts_with(owner);
    });
    if (dir == "/") break;
  }
  if (mkdir(staging.c_str(), 0755) != 0) {
    return CannotWrite(std::error_code(errno, std::generic_category()), staging);
  }
  Failpoint("staged");
  return staging;
}

absl::Status FileStore::SyncUpwards(std::string dir) const {
  while (true) {
    RETURN_IF_ERROR(SyncPath(dir));
    if (dir.size() <= artifact_root_.size()) return absl::OkStatus();
    dir = ParentOf(dir);
  }
}

absl::Status FileStore::Commit(const std::string& staging_dir, const std::string& uri) {
  ASSIGN_OR_RETURN(const std::string target, OutputPath(uri));
  const std::string parent = ParentOf(target);
  const std::string staged_in = ParentOf(staging_dir);
  if (!NameOf(staging_dir).starts_with(StagingPrefix(target)) || !IsWithin(parent, staged_in) ||
      !IsWithin(staged_in, artifact_root_)) {
    return absl::InvalidArgumentError(staging_dir + ": was not staged for " + uri);
  }
  const absl::StatusOr<std::string> manifest = ReadFile(staging_dir + "/" + kManifest);
  if (!manifest.ok()) {
    return absl::FailedPreconditionError(
        staging_dir + ": cannot be published: " + Text(manifest.status().message()));
  }
  RETURN_IF_ERROR(SyncTree(staging_dir));
  Failpoint("publish_synced");
  Way way;
  RETURN_IF_ERROR(way.Make(parent));
  Failpoint("publish_way_made");
  // Replaces nothing or an empty directory, in one step; anything else is refused by the system.
  if (rename(staging_dir.c_str(), target.c_str()) != 0) {
    const int error = errno;
    if (error != EEXIST && error != ENOTEMPTY && error != ENOTDIR) {
      return ErrnoToStatus(error, "publish", target);
    }
    const absl::StatusOr<std::string> present = ReadFile(target + "/" + kManifest);
    if (!present.ok() || *present != *manifest) return OutputExists(target);
    Discard(staging_dir);
  }
  Failpoint("publish_renamed");
  way.Keep();
  return SyncUpwards(parent);
}

void FileStore::Discard(const std::string& staging_dir) {
  const bool is_staging =
      NameOf(staging_dir).compare(0, kStagingPrefix.size(), kStagingPrefix) == 0;
  const absl::StatusOr<std::string> path = CanonicalPath(staging_dir);
  if (!is_staging || !path.ok() || *path != staging_dir || !IsWithin(*path, artifact_root_)) {
    Log(LogLevel::kWarning, "not a staging directory, not discarded", {{"path", staging_dir}});
    return;
  }
  // Empty, as a check leaves it. A planner may remove directories, and no files.
  if (rmdir(path->c_str()) == 0) return;
  std::error_code error;
  fs::remove_all(*path, error);
  if (error) {
    Log(LogLevel::kWarning, "staging directory not removed",
        {{"path", *path}, {"error", error.message()}});
  }
}

absl::Status FileStore::Remove(const std::string& uri, const std::string& manifest_sha256) {
  ASSIGN_OR_RETURN(const std::string target, OutputPath(uri));
  ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(target, manifest_sha256));
  if (HoldsMore(target, files)) return RemoveFiles(target, files);
  // Aside first, so that nobody sees half of it. No attempt has this token: what a crash leaves of
  // it is removed with what else was left behind.
  const std::string aside = ParentOf(target) + "/" + StagingPrefix(target) + "expired.0";
  std::error_code ignored;
  fs::remove_all(aside, ignored);
  if (rename(target.c_str(), aside.c_str()) != 0) return ErrnoToStatus(errno, "remove", target);
  // Somebody may have put something else there in between.
  if (const auto moved = FilesOf(aside, manifest_sha256); !moved.ok()) {
    if (rename(aside.c_str(), target.c_str()) != 0) return ErrnoToStatus(errno, "rename", aside);
    return moved.status();
  }
  RETURN_IF_ERROR(SyncPath(ParentOf(target)));
  Discard(aside);
  // The way to it that nothing else lies on.
  std::string dir = ParentOf(target);
  while (dir.size() > artifact_root_.size() && rmdir(dir.c_str()) == 0) dir = ParentOf(dir);
  return absl::OkStatus();
}

int FileStore::DiscardLost(
    const std::function<bool(const std::string& owner, int64_t attempt)>& is_current) {
  std::vector<std::string> staged;
  std::error_code error;
  fs::recursive_directory_iterator it(artifact_root_, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (!it->is_directory(ignored) || it->is_symlink(ignored)) continue;
    const std::string path = it->path().string();
    const bool is_staging = NameOf(path).starts_with(kStagingPrefix);
    if (is_staging) staged.push_back(path);
    // Neither holds what somebody else staged.
    if (is_staging || Exists(path + "/" + kManifest)) it.disable_recursion_pending();
  }
  int discarded = 0;
  for (const std::string& path : staged) {
    // ".staging-NAME-OWNER.ATTEMPT"; an owner has no dash of its own.
    const std::string token = path.substr(path.rfind('-') + 1);
    const size_t dot = token.rfind('.');
    int64_t attempt = -1;
    if (dot == std::string::npos) continue;
    const auto parsed =
        std::from_chars(token.data() + dot + 1, token.data() + token.size(), attempt);
    if (parsed.ec != std::errc() || is_current(token.substr(0, dot), attempt)) continue;
    Discard(path);
    ++discarded;
  }
  return discarded;
}

absl::StatusOr<std::string> CanonicalRoot(const std::string& root, std::string_view what) {
  std::error_code error;
  const fs::path path = fs::canonical(root, error);
  if (error || !fs::is_directory(path, error)) {
    return absl::InvalidArgumentError(std::string(what) + " " + root + ": not a directory");
  }
  return path.string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArtifactStore>> NewFileStore(const FileStoreOptions& options) {
  if (options.artifact_root.empty()) return absl::InvalidArgumentError("artifact_root is empty");
  std::error_code error;
  fs::create_directories(options.artifact_root, error);
  if (error) return CannotWrite(error, options.artifact_root);
  ASSIGN_OR_RETURN(std::string artifact_root,
                   CanonicalRoot(options.artifact_root, "artifact_root"));
  std::vector<std::string> input_roots;
  for (const std::string& root : options.model_roots) {
    ASSIGN_OR_RETURN(std::string canonical, CanonicalRoot(root, "model root"));
    input_roots.push_back(std::move(canonical));
  }
  // What we published may be evaluated.
  if (!input_roots.empty()) input_roots.push_back(artifact_root);
  return std::make_unique<FileStore>(std::move(input_roots), std::move(artifact_root));
}

}  // namespace svdllm
