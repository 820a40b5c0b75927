#include "base/json.h"

#include <nlohmann/json.hpp>

namespace svdllm {
namespace {
constexpr size_t kMaxPrintable = 160;

// Of "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing
// value - invalid literal; last read: 'N'" what stands behind the places.
std::string_view Reason(std::string_view what) {
  const size_t place = what.find(": ");
  if (place != std::string_view::npos) what.remove_prefix(place + 2);
  if (what.starts_with("syntax error while parsing")) {
    const size_t dash = what.find(" - ");
    if (dash != std::string_view::npos) what.remove_prefix(dash + 3);
  }
  return what;
}

// Where the nesting passes kMaxJsonDepth; npos: nowhere. Before the text is parsed, because values
// that are nested much deeper can be made, but not copied, without running out of stack. What is no
// JSON may be counted wrongly: the parser refuses it.
size_t FirstTooDeep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return i;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::string_view::npos;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, JsonFault* fault) {
  JsonFault ignored;
  if (fault == nullptr) fault = &ignored;
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {  // the parser takes it for the end
    *fault = {nul, "it contains a NUL byte"};
    return absl::InvalidArgumentError("not JSON: " + fault->what);
  }
  if (const size_t deep = FirstTooDeep(text); deep != std::string_view::npos) {
    *fault = {deep, "nested too deeply"};
    return absl::InvalidArgumentError("nested too deeply");
  }
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& error) {
    *fault = {error.byte > 0 ? error.byte - 1 : 0, Printable(Reason(error.what()))};
    return absl::InvalidArgumentError("not JSON: " + Printable(error.what()));
  } catch (const nlohmann::json::exception& error) {
    *fault = {0, Printable(error.what())};
    return absl::InvalidArgumentError("not JSON: " + fault->what);
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
