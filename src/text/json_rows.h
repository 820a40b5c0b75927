// JSON as texts and datasets have it: an array, or a value on every line.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/status.h"
#include "text/text_file.h"

namespace svdllm {

// Takes a value; where: "valid.jsonl: line 3" or "valid.json: element 2", in front of every message
// about it. The first error ends the reading.
using JsonRowSink = std::function<absl::Status(const std::string& where, nlohmann::json value)>;

// The elements of the array that the text is, or else the values of its lines, blank ones passed
// over; limit at most where limit > 0, and nothing behind them is looked at. NaN and infinities,
// which Python writes though JSON has none, are read as values that are neither text nor number.
// DATASET_INVALID, naming line and column and what was read there, for what is not JSON; by its
// name where it looks like CSV, or is one object over several lines. Where file is not whole, a
// last row that is cut off is passed over.
absl::Status ReadJsonRows(const TextFile& file, int64_t limit, const JsonRowSink& row);

// Whether the ending announces JSON in one of the two forms: .json, .jsonl, .ndjson, .jsonlines.
bool HasJsonEnding(const TextFile& file);

// DATASET_INVALID for a text whose name does not announce JSON and that is an array of objects or
// strings all the same, or whose first line is an object: it would be taken literally, quotes,
// braces and all.
absl::Status RefuseUnannouncedJson(const TextFile& file);

}  // namespace svdllm
