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

// The records of a file, limit at most where limit > 0. The ending, in either case and in front of
// that of a compression, tells:
//   .csv   a row each, fields named by the first row
//   .txt   six lines each, as HellaSwag is passed around: query, gold, four choices
//   else   JSON: an array of objects, or one on every line
// DATASET_INVALID, naming file and line, for what is not that or has no records; the errors of
// ReadTextFile (text/text_file.h).
absl::StatusOr<std::vector<Record>> ReadRecords(const std::string& path, int64_t limit);

// Sets a field of each record from a file with one label per line. DATASET_INVALID where it has
// fewer lines than there are records, or, where the records are all there are, more.
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
