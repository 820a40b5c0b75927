// What a machine that stops without warning may leave of a job's journal. The calls by which the
// journal changes the disk are recorded, and every state that they allow is made and read: after
// each call, with each of the changes that were not synced yet done or not, and with each of the
// files whose content was not synced whole, empty, or half of it zeros.
#include <gtest/gtest.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

#include "journal/journal.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

// One change, or what makes changes last.
struct Step {
  enum class Kind { kWrite, kSyncFile, kSyncDirectory, kRename, kRemove };
  Kind kind = Kind::kWrite;
  std::string name, to = {};  // to: kRename
  std::string content = {};   // kWrite: all of it
};

// The recorder; off while path is empty.
std::string recorded_path;
std::vector<Step> steps;
std::recursive_mutex recording;  // the journal syncs in a thread of its own

std::string NameBelow(const std::string& path) {
  if (recorded_path.empty() || !path.starts_with(recorded_path)) return "";
  return path == recorded_path ? "." : path.substr(recorded_path.size() + 1);
}

std::string NameOf(int fd) {
  char path[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = readlink(link.c_str(), path, sizeof(path));
  return size > 0 ? NameBelow(std::string(path, static_cast<size_t>(size))) : "";
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

// A file as the steps so far have made it, if it is not there already.
void RecordContent(const std::string& name) {
  const std::string content = ReadAll(recorded_path + "/" + name);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (step->kind == Step::Kind::kWrite && step->name == name) {
      if (step->content == content) return;
      break;
    }
  }
  steps.push_back({Step::Kind::kWrite, name, "", content});
}

}  // namespace
}  // namespace svdllm

// The linker puts these in front of the C library's (--wrap).
extern "C" {
int __real_fsync(int fd);
int __real_close(int fd);
int __real_rename(const char* from, const char* to);
int __real_unlink(const char* path);

int __wrap_fsync(int fd) {
  using namespace svdllm;
  const std::lock_guard<std::recursive_mutex> lock(recording);
  const std::string name = NameOf(fd);
  if (!name.empty() && name != ".") RecordContent(name);
  if (!name.empty()) {
    steps.push_back({name == "." ? Step::Kind::kSyncDirectory : Step::Kind::kSyncFile, name});
  }
  return __real_fsync(fd);
}

int __wrap_close(int fd) {
  using namespace svdllm;
  const std::lock_guard<std::recursive_mutex> lock(recording);
  const std::string name = NameOf(fd);
  const int result = __real_close(fd);
  if (!name.empty() && name != "." && fs::is_regular_file(recorded_path + "/" + name)) {
    RecordContent(name);
  }
  return result;
}

int __wrap_rename(const char* from, const char* to) {
  using namespace svdllm;
  const std::lock_guard<std::recursive_mutex> lock(recording);
  const std::string name = NameBelow(from);
  const int result = __real_rename(from, to);
  if (!name.empty()) steps.push_back({Step::Kind::kRename, name, NameBelow(to)});
  return result;
}

int __wrap_unlink(const char* path) {
  using namespace svdllm;
  const std::lock_guard<std::recursive_mutex> lock(recording);
  const std::string name = NameBelow(path);
  const int result = __real_unlink(path);
  if (!name.empty()) steps.push_back({Step::Kind::kRemove, name});
  return result;
}
}

namespace svdllm {
namespace {

// A file's content on the disk, and the content that is only in memory, where it is another.
struct Content {
  std::string synced, latest;
};

// The disk between two syncs of the directory: the names that will be found for sure, what may
// have happened to them since, in order, and the files behind the names.
class Disk {
 public:
  // Files are told apart by numbers: a rename gives one another name.
  void Do(const Step& step) {
    switch (step.kind) {
      case Step::Kind::kWrite:
        if (now_.count(step.name) == 0) {
          const size_t file = files_.size();
          files_.emplace_back();
          now_[step.name] = file;
          pending_.push_back({step.name, file, ""});
        }
        files_[now_[step.name]].latest = step.content;
        break;
      case Step::Kind::kSyncFile:
        if (now_.count(step.name) > 0) {
          files_[now_[step.name]].synced = files_[now_[step.name]].latest;
        }
        break;
      case Step::Kind::kSyncDirectory:
        durable_ = now_;
        pending_.clear();
        break;
      case Step::Kind::kRename:
        now_[step.to] = now_[step.name];
        now_.erase(step.name);
        pending_.push_back({step.to, now_[step.to], step.name});
        break;
      case Step::Kind::kRemove:
        now_.erase(step.name);
        pending_.push_back({step.name, kNone, ""});
        break;
    }
  }

  size_t pending() const { return pending_.size(); }
  // The names that are found where of the changes since the last sync those in `done` have reached
  // the disk: bit 2 is the third.
  std::map<std::string, size_t> Names(size_t done) const {
    std::map<std::string, size_t> names = durable_;
    for (size_t i = 0; i < pending_.size(); ++i) {
      if ((done >> i & 1) == 0) continue;
      const Change& change = pending_[i];
      if (!change.from.empty()) names.erase(change.from);
      if (change.file == kNone) {
        names.erase(change.name);
      } else {
        names[change.name] = change.file;
      }
    }
    return names;
  }
  const Content& file(size_t number) const { return files_[number]; }

 private:
  static constexpr size_t kNone = static_cast<size_t>(-1);
  struct Change {
    std::string name;
    size_t file = 0;
    std::string from;  // of a rename
  };
  std::vector<Content> files_;
  std::map<std::string, size_t> durable_, now_;
  std::vector<Change> pending_;
};

// What may be found of a content that was not synced.
std::vector<std::string> ContentsOf(const Content& content) {
  if (content.synced == content.latest) return {content.latest};
  std::string half = content.latest;
  std::fill(half.begin() + static_cast<std::ptrdiff_t>(half.size() / 2), half.end(), '\0');
  return {content.latest, "", half};
}

class PowerLossTest : public ::testing::Test {
 protected:
  PowerLossTest() {
    identity_.files["model"] = dir_.Write("model", "0123456789");
    identity_.program["build"] = "one";
  }
  ~PowerLossTest() override { recorded_path.clear(); }

  absl::StatusOr<Journal> Open(const std::string& path, const std::string& writer) {
    return Journal::Open(path, writer, identity_, [] { return absl::OkStatus(); });
  }
  static absl::Status Layer(Journal& journal, int64_t number) {
    const auto write = [&](const std::string& role, Journal::Needed needed, float value) {
      return journal.Write("layers", number, role, needed, {{"x", DType::kF32, {1}}},
                           [value](SafetensorsWriter& writer) {
                             return writer.Write("x", std::as_bytes(std::span(&value, 1)));
                           });
    };
    const auto value = static_cast<float>(number);
    RETURN_IF_ERROR(write("factors", Journal::Needed::kAlways, 100 + value));
    RETURN_IF_ERROR(write("stream", Journal::Needed::kByTheNext, value));
    return journal.Commit("layers", number, {{"number", number}});
  }
  static float ValueOf(const JournalRecord& record, const std::string& role) {
    const auto file = SafetensorsFile::Open(record.files.at(role));
    float value = -1;
    if (file.ok()) std::memcpy(&value, file->Get("x")->bytes.data(), sizeof(value));
    return value;
  }

  // Makes a state of the disk and looks at what the next attempt finds.
  void Check(const std::map<std::string, std::string>& files, int64_t at_least) {
    const std::string path = dir_.File("state");
    fs::remove_all(path);
    fs::create_directories(path);
    for (const auto& [name, content] : files) {
      std::ofstream(path + "/" + name, std::ios::binary) << content;
    }
    auto journal = Open(path, "next");
    ASSERT_OK(journal);
    const auto records = journal->Load("layers");
    ASSERT_OK(records);
    const auto found = static_cast<int64_t>(records->size());
    ASSERT_GE(found, at_least) << "what was on the disk is lost";
    for (int64_t layer = 0; layer < found; ++layer) {
      const JournalRecord& record = (*records)[static_cast<size_t>(layer)];
      ASSERT_EQ(record.facts.at("number").get<int64_t>(), layer);
      ASSERT_EQ(ValueOf(record, "factors"), 100 + static_cast<float>(layer));
    }
    if (found > 0) {
      ASSERT_EQ(ValueOf(records->back(), "stream"), static_cast<float>(found - 1));
    }
    ++states_;
  }

  testing::TempDir dir_;
  JournalIdentity identity_;
  int64_t states_ = 0;
};

TEST_F(PowerLossTest, LeavesWhatWasSyncedAndNothingThatSeemsWhole) {
  constexpr int64_t kLayers = 4;
  recorded_path = dir_.File("journal");
  steps.clear();
  std::vector<size_t> committed;  // steps after which layer n was committed and synced
  {
    auto journal = Open(recorded_path, "1");
    ASSERT_OK(journal);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      ASSERT_OK(Layer(*journal, layer));
      ASSERT_OK(journal->Settle());
      committed.push_back(steps.size());
    }
  }
  recorded_path.clear();
  const std::vector<Step> all = std::move(steps);
  Disk disk;
  for (size_t i = 0; i <= all.size(); ++i) {
    SCOPED_TRACE("after step " + std::to_string(i));
    const auto at_least = static_cast<int64_t>(
        std::count_if(committed.begin(), committed.end(), [i](size_t at) { return at <= i; }));
    ASSERT_LT(disk.pending(), 14u) << "too many to try all";
    for (size_t done = 0; done < size_t{1} << disk.pending(); ++done) {
      const auto names = disk.Names(done);
      // All files at once in each of the ways that one may be found in: their number is small, and
      // which of several torn files is found first makes no difference to a reader of digests.
      for (size_t way = 0; way < 3; ++way) {
        std::map<std::string, std::string> files;
        for (const auto& [name, number] : names) {
          const std::vector<std::string> contents = ContentsOf(disk.file(number));
          files[name] = contents[std::min(way, contents.size() - 1)];
        }
        Check(files, at_least);
        if (HasFatalFailure()) return;
      }
    }
    if (i < all.size()) disk.Do(all[i]);
  }
  RecordProperty("states", std::to_string(states_));
  EXPECT_GT(states_, 500);
}

}  // namespace
}  // namespace svdllm
