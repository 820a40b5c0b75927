#include "base/json.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace svdllm {
namespace {
constexpr size_t kMaxPrintable = 160;
}

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) {  // the parser takes it for the end
    return absl::InvalidArgumentError("not JSON: it contains a NUL byte");
  }
  try {
    return nlohmann::json::parse(text.begin(), text.end(),
                                 [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
                                   if (depth > kMaxJsonDepth)
                                     throw std::length_error("nested too deeply");
                                   return true;
                                 });
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError("not JSON: " + Printable(error.what()));
  } catch (const std::length_error& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

std::string Printable(std::string_view text) {
  std::string out(text.substr(0, kMaxPrintable));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (text.size() > kMaxPrintable) out += "...";
  return out;
}

}  // namespace svdllm
