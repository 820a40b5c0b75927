// Texts and tables for people; figures that others show too are in base/format.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

using svdllm::Duration;
std::string Duration(const google::protobuf::Duration& duration);
std::string ChangeText(int64_t before, int64_t after);  // " (-17.3 %)"; empty where before is 0
std::string Perplexity(double value);                   // "17.32", "251.4", "1.36e+05"
std::string Time(
    const google::protobuf::Timestamp& time);  // "2026-01-31 12:00:00 UTC"; "-" if unset
// Seconds from start to end.
double Between(const google::protobuf::Timestamp& start, const google::protobuf::Timestamp& end);

// Columns as wide as their widest cell, two spaces apart, rows of equal length. A column whose
// cells below the first row all begin with a digit is aligned to the right.
std::string Table(const std::vector<std::vector<std::string>>& rows);
// With '?' for control characters other than newline and tab: names from a model's files end up in
// messages, and must not reach the terminal as commands.
std::string Printable(std::string text);

}  // namespace svdllm::cli
