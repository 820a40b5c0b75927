#include "base/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
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

std::string Rate(const RateSpread& rate) {
  return fmt::format("{} ({} to {})", Rate(rate.median), Rate(rate.least), Rate(rate.largest));
}

std::string SpeedRatio(const RateSpread& before, const RateSpread& after, int64_t rounds) {
  constexpr double kSteady = 1.5;
  const auto known = [](const RateSpread& rate) {
    return rate.least > 0 && rate.median > 0 && std::isfinite(rate.largest);
  };
  if (!known(before) || !known(after)) return "–";
  const auto times = [](double ratio) { return "× " + Number(ratio, 3); };
  const std::string ratio = times(after.median / before.median);
  if (rounds < 2) return ratio + ", of one round";
  const std::string range =
      times(after.least / before.largest) + " to " + times(after.largest / before.least);
  for (const RateSpread& rate : {before, after}) {
    if (rate.largest > kSteady * rate.least) return "unsteady: " + range;
  }
  const bool overlap = after.least <= before.largest && before.least <= after.largest;
  return overlap ? "alike: " + range : ratio;
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

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace svdllm
