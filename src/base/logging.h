// Logs: one JSON object per line on standard error, with time, level, message and fields. They hold
// no weights, no prompts and no credentials. Thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace svdllm {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

using LogFields = std::vector<std::pair<std::string, std::string>>;

// Sets fields that every later line of this process carries, for example {"role", "worker"}.
void SetLogContext(LogFields fields);
void SetLogLevel(LogLevel level);
void Log(LogLevel level, std::string_view message, const LogFields& fields = {});

}  // namespace svdllm
