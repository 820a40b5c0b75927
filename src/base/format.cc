#include "base/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace svdllm {
namespace {

// value is in the first of the units, of which each is 1000 of the one before.
std::string Scaled(double value, std::initializer_list<const char*> units) {
  const char* const* unit = units.begin();
  // 999.95 would be printed as 1000.0.
  for (; value >= 999.95 && unit + 1 != units.end(); ++unit) value /= 1000;
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, *unit);
}

}  // namespace

std::string Number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}g}", value, digits) : "–";
}

std::string Rate(double per_second) {
  const bool whole = std::isfinite(per_second) && per_second >= 999.5;
  return whole ? fmt::format("{:.0f}", per_second) : Number(per_second, 3);
}

std::string Change(double before, double after) {
  return before > 0 ? fmt::format("{:+.1f} %", 100 * (after / before - 1)) : "–";
}

std::string Count(int64_t count) {
  return Scaled(static_cast<double>(count) / 1e3, {"k", "M", "G"});
}

std::string Grouped(int64_t count) {
  std::string text = std::to_string(count);
  const size_t first = count < 0 ? 1 : 0;
  for (size_t at = text.size(); at > first + 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string Bytes(int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  return Scaled(static_cast<double>(bytes) / 1e3, {"kB", "MB", "GB", "TB", "PB", "EB"});
}

std::string GiB(int64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (int64_t{1} << 30));
}

std::string Seconds(double seconds) {
  if (seconds < 100) return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 2 : 1);
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (whole < 6000) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string Duration(double seconds) {
  if (!(seconds > 0)) return "0s";
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const int64_t whole = std::llround(std::min(seconds, 1e15));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}d{:02}h", whole / 86400, whole / 3600 % 24);
}

}  // namespace svdllm
