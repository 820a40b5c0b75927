#include "base/logging.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

namespace svdllm {
namespace {

struct State {
  std::mutex mutex;
  LogFields context;
  std::shared_ptr<spdlog::logger> logger;
};

State& GlobalState() {
  static State* state = [] {
    auto* s = new State;  // never destroyed: threads may log while the process exits
    s->logger = std::make_shared<spdlog::logger>("svdllm",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    s->logger->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})",
                           spdlog::pattern_time_type::utc);
    s->logger->flush_on(spdlog::level::trace);
    return s;
  }();
  return *state;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// Invalid UTF-8 in a name must not throw away the line.
std::string Quote(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

LogValue::LogValue(std::string_view text) : json_(Quote(text)) {}

void SetLogContext(LogFields fields) {
  State& state = GlobalState();
  std::lock_guard<std::mutex> lock(state.mutex);
  state.context = std::move(fields);
}

void SetLogLevel(LogLevel level) { GlobalState().logger->set_level(ToSpdlog(level)); }

void Log(LogLevel level, std::string_view message, const LogFields& fields) {
  State& state = GlobalState();
  if (!state.logger->should_log(ToSpdlog(level))) return;
  std::string line = "\"message\":" + Quote(message);
  const auto append = [&line](const LogFields& list) {
    for (const auto& [key, value] : list) line += "," + Quote(key) + ":" + value.json();
  };
  {
    std::lock_guard<std::mutex> lock(state.mutex);
    append(state.context);
  }
  append(fields);
  state.logger->log(ToSpdlog(level), "{}", line);
}

}  // namespace svdllm
