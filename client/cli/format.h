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
// cells below the first row all begin with a digit is aligned to the right. A newline in a cell,
// which would begin a row of its own, becomes a blank.
std::string Table(std::vector<std::vector<std::string>> rows);
// Words of text in lines of at most width columns, each behind indent.
std::string Wrap(std::string_view text, std::string_view indent, size_t width = 90);
// With control characters other than newline and tab written out ("\x1b"), and those that change
// the direction of writing ("\u202e"): names from a model's files, labels and messages of a server
// must not reach the terminal as commands, nor look like others.
std::string Printable(const std::string& text);
void MakePrintable(google::protobuf::Message* message);
// A message whose texts have none of these, nor newlines and tabs ("\n"), with which one line would
// look like several.
template <typename Message>
Message PrintableMessage(Message message) {
  MakePrintable(&message);
  return message;
}

}  // namespace svdllm::cli
