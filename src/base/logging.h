// Logs: one JSON object a line on standard error, with time, level, message and fields. No weights,
// no prompts, no credentials. Thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace svdllm {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

using LogFields = std::vector<std::pair<std::string, std::string>>;

// Fields that every later line of this process carries, e.g. {"role", "worker"}.
void SetLogContext(LogFields fields);
void SetLogLevel(LogLevel level);
void Log(LogLevel level, std::string_view message, const LogFields& fields = {});

}  // namespace svdllm
