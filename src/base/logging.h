// Logs: one JSON object per line on standard error, with time, level, message and fields. They hold
// no weights, no prompts and no credentials. Thread-safe.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace svdllm {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// A field's value as it stands in the line: a text is quoted, an integer is a number.
class LogValue {
 public:
  LogValue(std::string_view text);
  LogValue(const std::string& text) : LogValue(std::string_view(text)) {}
  LogValue(const char* text) : LogValue(std::string_view(text)) {}
  template <std::integral Number>
  LogValue(Number number) : json_(std::to_string(number)) {}
  const std::string& json() const { return json_; }

 private:
  std::string json_;
};

using LogFields = std::vector<std::pair<std::string, LogValue>>;

// Sets fields that every later line of this process carries, for example {"role", "worker"}.
void SetLogContext(LogFields fields);
void SetLogLevel(LogLevel level);
void Log(LogLevel level, std::string_view message, const LogFields& fields = {});

}  // namespace svdllm
