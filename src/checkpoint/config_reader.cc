#include "checkpoint/config_reader.h"

#include <cmath>

#include "base/json.h"
#include "checkpoint/architecture.h"

namespace svdllm::config {

absl::Status Corrupt(std::string_view key, std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   "config.json: " + std::string(key) + ": " + std::string(what));
}

absl::Status Unsupported(std::string_view key, std::string_view what) {
  std::string families;
  for (const std::string& family : KnownFamilies()) {
    families += (families.empty() ? "" : ", ") + family;
  }
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedArchitecture,
                   "config.json: " + std::string(key) + ": " + std::string(what) +
                       "; supported families: " + families);
}

std::string Dump(const json& value) {
  return Printable(value.dump(-1, ' ', true, json::error_handler_t::replace));
}

const json* Reader::Get(const char* key, bool optional) {
  const json* value = Find(key);
  if (value == nullptr && !optional) Keep(Corrupt(Path(key), "missing"));
  return value;
}

int64_t Reader::Size(const char* key, std::optional<int64_t> fallback, int64_t max) {
  const json* value = Get(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(1);
  if (!value->is_number_integer()) return Wrong(key, *value, "is not an integer"), 1;
  // An unsigned value past int64's range reads as negative.
  const int64_t number = value->get<int64_t>();
  if (number <= 0 || number > max) {
    return Wrong(key, *value, "is not between 1 and " + std::to_string(max)), 1;
  }
  return number;
}

double Reader::Positive(const char* key, std::optional<double> fallback) {
  const json* value = Get(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(1);
  if (!value->is_number()) return Wrong(key, *value, "is not a number"), 1;
  const double number = value->get<double>();
  if (!std::isfinite(number) || number <= 0) {
    return Wrong(key, *value, "is not a positive number"), 1;
  }
  return number;
}

bool Reader::Bool(const char* key, bool fallback) {
  const json* value = Get(key, true);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Wrong(key, *value, "is not true or false"), fallback;
  return value->get<bool>();
}

std::string Reader::String(const char* key, std::optional<std::string> fallback) {
  const json* value = Get(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or("");
  if (!value->is_string()) return Wrong(key, *value, "is not a string"), "";
  return value->get<std::string>();
}

std::vector<double> Reader::Positives(const char* key, int64_t count) {
  std::vector<double> numbers(static_cast<size_t>(count), 1.0);
  const json* value = Get(key, false);
  if (value == nullptr) return numbers;
  if (!value->is_array() || value->size() != numbers.size()) {
    return Wrong(key, *value, "is not a list of " + std::to_string(count) + " numbers"), numbers;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    const json& number = (*value)[i];
    if (!number.is_number() || !std::isfinite(number.get<double>()) || number.get<double>() <= 0) {
      return Wrong(key, number, "is not a positive number"), numbers;
    }
    numbers[i] = number.get<double>();
  }
  return numbers;
}

}  // namespace svdllm::config
