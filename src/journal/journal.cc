#include "journal/journal.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <set>
#include <utility>

#include "base/digest.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "base/json.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr char kIdentityFile[] = "identity.json";
constexpr int64_t kMostRecordBytes = int64_t{1} << 30;

// Which file it is, and whether it may have changed: what is the same here was not written to.
absl::StatusOr<std::string> StampOf(const std::string& path) {
  struct stat s {};
  if (stat(path.c_str(), &s) != 0) return ErrnoToStatus(errno, "look at", path);
  std::string stamp;
  for (const int64_t part :
       {static_cast<int64_t>(s.st_dev), static_cast<int64_t>(s.st_ino),
        static_cast<int64_t>(s.st_size), int64_t{s.st_mtim.tv_sec}, int64_t{s.st_mtim.tv_nsec},
        int64_t{s.st_ctim.tv_sec}, int64_t{s.st_ctim.tv_nsec}}) {
    stamp += (stamp.empty() ? "" : ":") + std::to_string(part);
  }
  return stamp;
}

// The text of a record or of the identity: its digest, then the JSON that it is of.
std::string Sealed(const Json& json) {
  const std::string text = json.dump();
  return Sha256(text) + "\n" + text + "\n";
}

// None where the file is not there or not as it was written.
std::optional<Json> Unsealed(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMostRecordBytes);
  if (!text.ok()) return std::nullopt;
  const size_t end = text->find('\n');
  if (end == std::string::npos || text->back() != '\n' || text->size() < end + 2) {
    return std::nullopt;
  }
  const std::string_view body = std::string_view(*text).substr(end + 1, text->size() - end - 2);
  if (Sha256(body) != std::string_view(*text).substr(0, end)) return std::nullopt;
  absl::StatusOr<Json> json = ParseJson(body);
  if (!json.ok() || !json->is_object()) return std::nullopt;
  return std::move(*json);
}

absl::Status Mismatch(const std::string& what) {
  return MakeError(absl::StatusCode::kFailedPrecondition, kCheckpointMismatch,
                   "resume: " + what +
                       " since the attempt that this one was to go on from; submit the job again");
}

// The first name whose value differs, or is on one side only.
std::optional<std::string> FirstDifference(const Json& before, const Json& now) {
  for (const auto& [name, value] : now.items()) {
    const auto it = before.find(name);
    if (it == before.end() || *it != value) return name;
  }
  for (const auto& [name, value] : before.items()) {
    if (!now.contains(name)) return name;
  }
  return std::nullopt;
}

absl::Status SyncAll(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) RETURN_IF_ERROR(SyncPath(path));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Journal> Journal::Open(const std::string& dir, const std::string& writer,
                                      const JournalIdentity& identity,
                                      const std::function<absl::Status()>& check) {
  Journal journal;
  journal.dir_ = dir;
  journal.writer_ = writer;
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) return ErrnoToStatus(error.value(), "create", dir);
  RETURN_IF_ERROR(journal.Compare(identity, check));
  return journal;
}

absl::Status Journal::Compare(const JournalIdentity& identity,
                              const std::function<absl::Status()>& check) {
  const std::optional<Json> stored = Unsealed(dir_ + "/" + kIdentityFile);
  const Json before = stored.value_or(Json::object());
  const Json files_before = before.value("files", Json::object());
  Json files = Json::object(), parameters = Json::object(), program = Json::object();
  for (const auto& [name, path] : identity.files) {
    RETURN_IF_ERROR(check());
    ASSIGN_OR_RETURN(const std::string stamp, StampOf(path));
    const auto known = files_before.find(name);
    if (known != files_before.end() && known->value("stamp", "") == stamp) {
      files[name] = *known;
      continue;
    }
    ASSIGN_OR_RETURN(const FileDigest digest, DigestOfFile(path));
    files[name] = {{"sha256", digest.sha256}, {"stamp", stamp}};
  }
  for (const auto& [name, value] : identity.parameters) parameters[name] = value;
  for (const auto& [name, value] : identity.program) program[name] = value;
  identity_ = {{"files", files}, {"parameters", parameters}, {"program", program}};
  if (!stored) {
    // Without it nobody knows what the rest is of.
    return fs::is_empty(dir_) ? StoreIdentity() : StartOver("the record of what it was is damaged");
  }
  for (const auto& [name, file] : files.items()) {
    const auto known = files_before.find(name);
    if (known == files_before.end()) return Mismatch(name + " has come");
    if (known->value("sha256", "") != file.value("sha256", "")) {
      return Mismatch(name + " has changed");
    }
  }
  for (const auto& [name, file] : files_before.items()) {
    if (!files.contains(name)) return Mismatch(name + " has gone");
  }
  const Json program_before = before.value("program", Json::object());
  if (const auto name = FirstDifference(program_before, program)) {
    const auto value = [&name](const Json& of) { return of.value(*name, std::string("unknown")); };
    return StartOver(*name + " was " + value(program_before) + " and is " + value(program));
  }
  if (const auto name = FirstDifference(before.value("parameters", Json::object()), parameters)) {
    return Mismatch(*name + " has changed");
  }
  // Files that were moved are known by their new stamps from now on.
  if (before.contains("confirmed")) identity_["confirmed"] = before["confirmed"];
  return before == identity_ ? absl::OkStatus() : StoreIdentity();
}

absl::Status Journal::StartOver(const std::string& why) {
  started_over_ = why;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir_, error)) {
    fs::remove_all(entry.path(), error);
  }
  if (error) return ErrnoToStatus(error.value(), "empty", dir_);
  return StoreIdentity();
}

absl::Status Journal::StoreIdentity() {
  return WriteFileAtomic(dir_ + "/" + kIdentityFile, Sealed(identity_));
}

absl::Status Journal::Confirm(const std::string& name, const std::string& value) {
  if (!keeps()) return absl::OkStatus();
  Json& confirmed = identity_["confirmed"];
  const auto known = confirmed.find(name);
  if (known != confirmed.end()) {
    return *known == value ? absl::OkStatus() : Mismatch("the " + name + " have changed");
  }
  confirmed[name] = value;
  return StoreIdentity();
}

std::string Journal::RecordName(const std::string& series, int64_t number) const {
  char digits[24];
  std::snprintf(digits, sizeof(digits), "%06lld", static_cast<long long>(number));
  return dir_ + "/" + series + "-" + digits + ".json";
}

std::optional<Json> Journal::ReadRecord(const std::string& series, int64_t number) const {
  std::optional<Json> record = Unsealed(RecordName(series, number));
  if (!record || record->value("series", "") != series || record->value("number", -1) != number ||
      !record->contains("facts") || !(*record)["files"].is_array()) {
    return std::nullopt;
  }
  return record;
}

bool Journal::IsWhole(const Json& file) const {
  const auto digest = DigestOfFile(dir_ + "/" + file.value("name", ""));
  return digest.ok() && digest->sha256 == file.value("sha256", "");
}

absl::StatusOr<std::vector<JournalRecord>> Journal::Load(const std::string& series) const {
  std::vector<JournalRecord> records;
  if (!keeps()) return records;
  std::vector<Json> whole;
  for (int64_t number = 0;; ++number) {
    std::optional<Json> record = ReadRecord(series, number);
    if (!record) break;
    const Json& files = (*record)["files"];
    const bool lasting = std::all_of(files.begin(), files.end(), [this](const Json& file) {
      return !file.value("always", true) || IsWhole(file);
    });
    if (!lasting) break;
    whole.push_back(std::move(*record));
  }
  while (!whole.empty()) {
    const Json& files = whole.back()["files"];
    if (std::all_of(files.begin(), files.end(), [this](const Json& file) {
          return file.value("always", true) || IsWhole(file);
        })) {
      break;
    }
    whole.pop_back();
  }
  for (Json& record : whole) {
    JournalRecord& loaded = records.emplace_back();
    loaded.number = record.value("number", int64_t{0});
    loaded.facts = std::move(record["facts"]);
    for (const Json& file : record["files"]) {
      loaded.files[file.value("role", "")] = dir_ + "/" + file.value("name", "");
    }
  }
  return records;
}

absl::Status Journal::Write(const std::string& series, int64_t number, const std::string& role,
                            Needed needed, const std::vector<TensorSpec>& tensors,
                            const std::function<absl::Status(SafetensorsWriter&)>& fill) {
  if (!keeps()) return absl::OkStatus();
  File file;
  file.role = role;
  file.name = series + "-" + writer_ + "-" + std::to_string(files_++) + ".safetensors";
  file.always = needed == Needed::kAlways;
  const std::string path = dir_ + "/" + file.name;
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors));
  RETURN_IF_ERROR(fill(writer));
  RETURN_IF_ERROR(writer.Close());
  Failpoint("journal_file");
  ASSIGN_OR_RETURN(const FileDigest digest, DigestOfFile(path));
  file.sha256 = digest.sha256;
  open_[{series, number}].push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Journal::Commit(const std::string& series, int64_t number, Json facts) {
  if (!keeps()) return absl::OkStatus();
  RETURN_IF_ERROR(Settle());
  const std::string path = RecordName(series, number);
  Json files = Json::array();
  std::vector<std::string> unsynced;
  for (const File& file : open_[{series, number}]) {
    files.push_back({{"role", file.role},
                     {"name", file.name},
                     {"sha256", file.sha256},
                     {"always", file.always}});
    unsynced.push_back(dir_ + "/" + file.name);
  }
  open_.erase({series, number});
  const Json record = {
      {"series", series}, {"number", number}, {"facts", std::move(facts)}, {"files", files}};
  RETURN_IF_ERROR(ReplaceFile(path, Sealed(record), writer_));
  Failpoint("journal_record");
  unsynced.push_back(path);
  unsynced.push_back(dir_);
  syncing_ =
      std::async(std::launch::async, [paths = std::move(unsynced)] { return SyncAll(paths); });
  // Record number − 1 has reached the disk, so that two generations are there without the one
  // before it.
  if (number < 2) return absl::OkStatus();
  const std::optional<Json> old = ReadRecord(series, number - 2);
  if (!old) return absl::OkStatus();
  for (const Json& file : (*old)["files"]) {
    if (!file.value("always", true)) unlink((dir_ + "/" + file.value("name", "")).c_str());
  }
  Failpoint("journal_old_removed");
  return absl::OkStatus();
}

absl::Status Journal::Settle() { return syncing_.valid() ? syncing_.get() : absl::OkStatus(); }

absl::Status Journal::Drop(const std::string& series) {
  if (!keeps()) return absl::OkStatus();
  RETURN_IF_ERROR(Settle());
  // A record first, then what it needs: nothing is left that would seem whole and is not.
  std::set<std::string> names;
  for (int64_t number = 0;; ++number) {
    const std::optional<Json> record = ReadRecord(series, number);
    if (!record) break;
    unlink(RecordName(series, number).c_str());
    for (const Json& file : (*record)["files"]) names.insert(file.value("name", ""));
  }
  for (const std::string& name : names) unlink((dir_ + "/" + name).c_str());
  return absl::OkStatus();
}

}  // namespace svdllm
