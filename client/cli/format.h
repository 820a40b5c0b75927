// Numbers, times and tables for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

std::string Count(int64_t value);     // "134,515,008"
std::string Bytes(int64_t bytes);     // "269.0 MB"; powers of 1000
std::string Seconds(double seconds);  // "0.8s", "12s", "2m13s", "3h05m", "2d04h"
std::string Seconds(const google::protobuf::Duration& duration);
std::string Change(int64_t before, int64_t after);  // " (-17.3 %)"; empty where before is 0
std::string Real(double value);                     // at most 6 significant digits: "0.8"
std::string Rate(double value);                     // a second: "1,234", "56.7", "0.123"
std::string Perplexity(double value);               // "17.32", "251.4", "1.36e+05"
std::string Time(
    const google::protobuf::Timestamp& time);  // "2026-01-31 12:00:00 UTC"; "-" if unset
// Seconds from start to end.
double Between(const google::protobuf::Timestamp& start, const google::protobuf::Timestamp& end);

// Columns as wide as their widest cell, two spaces apart, rows of equal length. A column whose
// cells below the first row all begin with a digit is aligned to the right.
std::string Table(const std::vector<std::vector<std::string>>& rows);
// What a terminal shows of UTF-8 text: code points. (No wide characters are printed here.)
size_t Columns(std::string_view text);
// With '?' for control characters other than newline and tab: names from a model's files end up in
// messages, and must not reach the terminal as commands.
std::string Printable(std::string text);

}  // namespace svdllm::cli
