// A dataset's file as records with named fields, whatever its form.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct Record {
  std::string where;  // "valid.jsonl: line 3"; it stands in front of every message about the record
  nlohmann::json fields;
};

// Reads the records of a file, at most limit of them where limit > 0:
//   .csv   one record per row; the first row names the fields
//   .txt   six lines per record, as HellaSwag is passed around: query, gold, four choices
//   else   JSON: an array of objects, or one object per line
// DATASET_INVALID, naming file and line, for a file that is not of these, has no records or is
// compressed.
absl::StatusOr<std::vector<Record>> ReadRecords(const std::string& path, int64_t limit);

// Sets a field of each record from a file with one label per line. `all` says that the records are
// all that there are. DATASET_INVALID where the file has fewer lines than there are records or,
// with `all`, more.
absl::Status AddLabels(const std::string& labels_path, std::string_view field, bool all,
                       std::vector<Record>& records);

// Makes the error DATASET_INVALID "where: what".
absl::Status InvalidRecord(const Record& record, const std::string& what);

// Return a field, or an error that names it and says what is wrong with it.
absl::StatusOr<std::string> Text(const Record& record, const char* field);
absl::StatusOr<std::vector<std::string>> Texts(const Record& record, const char* field);
// Returns a whole number, which may be written as a number or as a string.
absl::StatusOr<int64_t> Integer(const Record& record, const char* field);

}  // namespace svdllm
