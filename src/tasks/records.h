// A dataset's file as records with named fields, whatever its form.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct Record {
  std::string where;  // "valid.jsonl: line 3", in front of every message about it
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

// DATASET_INVALID: "where: what".
absl::Status InvalidRecord(const Record& record, const std::string& what);

// A field, or what is wrong with it, named.
absl::StatusOr<std::string> Text(const Record& record, const char* field);
absl::StatusOr<std::vector<std::string>> Texts(const Record& record, const char* field);
// A whole number, written as one or as a string.
absl::StatusOr<int64_t> Integer(const Record& record, const char* field);

}  // namespace svdllm
