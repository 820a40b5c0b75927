#include "report/damage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/format.h"

namespace svdllm {
namespace {

// "16.0 % smaller"
std::string SizeText(int64_t before, int64_t after) {
  if (before <= 0) return "";
  const double share = static_cast<double>(after) / static_cast<double>(before) - 1;
  if (std::abs(share) < 0.0005) return "as large as before";
  return fmt::format("{:.1f} % {}", 100 * std::abs(share), share < 0 ? "smaller" : "larger");
}

bool IsWithinError(const Comparison& c) {
  return c.std_error >= 0 && std::abs(c.change) <= 2 * c.std_error;
}

}  // namespace

Damage DamageOf(const Comparison& c) {
  if (c.is_perplexity()) {
    const double ratio = 1 + c.change;
    if (ratio <= 1.05) return Damage::kNone;
    if (ratio <= 1.25) return Damage::kSmall;
    if (ratio <= 2) return Damage::kClear;
    if (ratio <= kDestroyedRatio) return Damage::kHeavy;
    return Damage::kDestroyed;  // not a number, too
  }
  if (!std::isfinite(c.change)) return Damage::kHeavy;
  if (-c.change <= 0.01 || IsWithinError(c)) return Damage::kNone;
  if (-c.change <= 0.03) return Damage::kSmall;
  return -c.change <= 0.1 ? Damage::kClear : Damage::kHeavy;
}

std::string_view DamageWords(Damage damage) {
  constexpr std::string_view kWords[] = {"hardly a loss", "a small loss", "a clear loss",
                                         "a heavy loss", "destroyed"};
  return kWords[static_cast<size_t>(damage)];
}

std::string DamageClass(Damage damage) {
  return fmt::format("damage-{}", static_cast<int>(damage));
}

const Comparison* Headline(const std::vector<Comparison>& comparisons) {
  const Comparison* worst = nullptr;
  const auto loss = [](const Comparison& c) {
    const double lost = c.is_perplexity() ? c.change : -c.change;
    return std::isfinite(lost) ? lost : INFINITY;
  };
  const auto rank = [&](const Comparison& c) {
    return std::tuple(DamageOf(c), c.is_perplexity(), loss(c));
  };
  const std::string* task = nullptr;
  for (const Comparison& c : comparisons) {
    const bool first = task == nullptr || *task != c.name;
    task = &c.name;
    if (!c.is_perplexity() && !first) continue;
    if (worst == nullptr || rank(c) > rank(*worst)) worst = &c;
  }
  return worst;
}

const Comparison* FindComparison(const std::vector<Comparison>& comparisons,
                                 const std::string& name, const std::string& metric) {
  for (const Comparison& c : comparisons) {
    if (c.name == name && c.metric == metric) return &c;
  }
  return nullptr;
}

std::string ChangeText(const Comparison& c) {
  if (c.is_perplexity()) {
    const std::string error = c.std_error >= 0 ? " ± " + Number(c.std_error, 2) : "";
    return "× " + Number(1 + c.change) + error;
  }
  if (!std::isfinite(c.change)) return "–";
  // Points of 100 are not as fine as shares.
  const int digits = std::max(std::abs(c.value), std::abs(c.baseline)) > 1 ? 2 : 4;
  std::string text = fmt::format("{:+.{}f}", c.change, digits);
  if (c.std_error >= 0) text += fmt::format(" ± {:.{}f}", c.std_error, digits);
  return text;
}

std::string WithError(const PerplexityResult& p) {
  std::string text = Number(p.perplexity);
  if (p.log_std_error >= 0) text += " ± " + Number(p.perplexity * p.log_std_error, 2);
  return text;
}

std::string Conclusion(int64_t bytes_before, int64_t bytes_after,
                       const std::vector<Comparison>& comparisons) {
  const std::string size = SizeText(bytes_before, bytes_after);
  const Comparison* const headline = Headline(comparisons);
  if (headline == nullptr) {
    return size + (size.empty() ? "" : "; ") + "nothing was measured that tells what it costs";
  }
  return fmt::format("{}{}{} {} ({}): {}", size, size.empty() ? "" : ", ", headline->metric,
                     ChangeText(*headline), headline->name, DamageWords(DamageOf(*headline)));
}

}  // namespace svdllm
