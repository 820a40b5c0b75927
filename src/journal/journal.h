// What a job has finished so far, kept on disk, so that the attempt after a lost one goes on behind
// it and ends in the same bytes.
//
// A journal is a directory that belongs to one job. It consists of series of records that are
// numbered from 0: record 7 of the series "layers" says that decoder layer 7 is done. A record has
// facts (JSON) and files (safetensors). Some files are needed as long as the series is, such as a
// layer's factors; others only until two later records are there, such as the activations behind a
// layer. Two generations of the latter are kept, so that one that did not reach the disk before a
// power failure leaves another.
//
// Every record carries the digests of its files, and its own. What does not match them counts as
// not there. A record stands as soon as it is renamed into place, which the death of the process
// does not undo; it is synced to the disk while the job goes on, at the latest when the next record
// of any series is committed.
//
// All writers of one journal write the same bytes, because all that shaped them is compared first.
// Files' names contain the writer's, so that a writer that was thought dead harms no other's.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/safetensors.h"

namespace svdllm {

// All that shapes a job's results.
struct JournalIdentity {
  // What is read: a name for people and where the file lies. Compared by content.
  std::map<std::string, std::string> files;
  // What is asked: "method" is "anchored".
  std::map<std::string, std::string> parameters;
  // What it is computed by: "build", "device", "threads".
  std::map<std::string, std::string> program;
};

struct JournalRecord {
  int64_t number = 0;
  nlohmann::json facts;
  std::map<std::string, std::string> files;  // by their roles in the record: where they lie
};

// Movable. Not thread-safe.
class Journal {
 public:
  // A journal that keeps nothing and has nothing: every call is OK and does nothing.
  Journal() = default;

  // Opens the journal in `dir`, which is created where it is absent. `writer` names this attempt
  // and is used by no other. What an earlier attempt kept is compared with `identity`:
  //  - another file or parameter is FAILED_PRECONDITION with CHECKPOINT_MISMATCH, naming it;
  //  - another program, such as a newer build, cannot be expected to give the same bytes: all that
  //    was kept is removed, and started_over() says why.
  // A file that is as it was by its size, times and place on the disk is not read again. `check` is
  // asked between files and ends the call with its status.
  static absl::StatusOr<Journal> Open(const std::string& dir, const std::string& writer,
                                      const JournalIdentity& identity,
                                      const std::function<absl::Status()>& check);
  Journal(Journal&&) = default;
  Journal& operator=(Journal&&) = default;

  bool keeps() const { return !dir_.empty(); }
  // Why what an earlier attempt kept was of no use, for people. Empty: it is, or there was nothing.
  const std::string& started_over() const { return started_over_; }

  // Compares one more thing that shapes the results and is known only now, such as the digest of
  // the calibration tokens: CHECKPOINT_MISMATCH where an earlier attempt had another.
  absl::Status Confirm(const std::string& name, const std::string& value);

  // Returns records 0 to n of a series, n being the last for which all of them are whole, and all
  // files of record n as well. Of the others, files that were needed no longer may be gone.
  absl::StatusOr<std::vector<JournalRecord>> Load(const std::string& series) const;

  enum class Needed { kAlways, kByTheNext };
  // Writes a file of a record that will be committed. `fill` writes the tensors. SCRATCH_FULL where
  // the disk has no room.
  absl::Status Write(const std::string& series, int64_t number, const std::string& role,
                     Needed needed, const std::vector<TensorSpec>& tensors,
                     const std::function<absl::Status(SafetensorsWriter&)>& fill);
  // Ends a record: with its number and facts, and the files written for it.
  absl::Status Commit(const std::string& series, int64_t number, nlohmann::json facts);
  // Waits until all that was committed has reached the disk.
  absl::Status Settle();
  // Removes a series that what was committed since has made superfluous.
  absl::Status Drop(const std::string& series);

 private:
  struct File {
    std::string role, name, sha256;
    bool always = true;
  };
  absl::Status Compare(const JournalIdentity& identity, const std::function<absl::Status()>& check);
  absl::Status StartOver(const std::string& why);
  absl::Status StoreIdentity();
  std::string RecordName(const std::string& series, int64_t number) const;
  std::optional<nlohmann::json> ReadRecord(const std::string& series, int64_t number) const;
  bool IsWhole(const nlohmann::json& file) const;

  std::string dir_, writer_, started_over_;
  nlohmann::json identity_;
  // Of the records that are not committed yet, by series and number.
  std::map<std::pair<std::string, int64_t>, std::vector<File>> open_;
  int64_t files_ = 0;  // written so far: numbers them
  std::future<absl::Status> syncing_;
};

}  // namespace svdllm
