#include "evaluate/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/format.h"

namespace svdllm {
namespace {

// A threshold of 0.02 allows 0.40 to become 0.38, whose difference is not 0.02 in binary.
constexpr double kRounding = 1e-9;

// What the change may be, in the direction of worse: at most the limit.
double LossOf(const Comparison& c) { return c.is_perplexity() ? c.change : -c.change; }

// How many times the limit the loss is.
double Excess(const Comparison& c) {
  const double loss = LossOf(c);
  return std::isfinite(loss) ? loss / std::max(*c.limit, kRounding) : INFINITY;
}

// Empty where the limit is well above what chance makes of it.
std::string Doubt(const Comparison& c) {
  const std::string what = c.name == c.metric ? c.name : c.name + ": " + c.metric;
  if (!(c.std_error >= 0)) {
    return what + ": how far chance alone moves its change is not known from these measurements";
  }
  if (*c.limit >= 2 * c.std_error) return "";
  if (LossOf(c) - *c.limit > 2 * c.std_error) return "";  // broken, and not by chance
  const double scale = c.is_perplexity() ? 100 : 1;
  const char* const unit = c.is_perplexity() ? " %" : "";
  return fmt::format(
      "{}: the limit of {:.3g}{} is less than two standard errors of the change, {:.2g}{} each: "
      "chance alone can pass or break it",
      what, scale * *c.limit, unit, scale * c.std_error, unit);
}

}  // namespace

Verdict Judge(const AcceptanceThreshold& threshold, std::vector<Comparison>& comparisons) {
  Verdict verdict;
  const std::string* task = nullptr;  // whose comparisons we are among
  for (Comparison& c : comparisons) {
    const bool first = task == nullptr || *task != c.name;
    task = &c.name;
    if (c.is_perplexity()) {
      c.limit = threshold.max_perplexity_increase;
    } else if (first) {
      c.limit = threshold.max_accuracy_drop;
    }
    if (!c.limit) continue;
    c.accepted = LossOf(c) <= *c.limit + kRounding;
    if (!c.accepted) verdict.regressions.push_back(RegressionText(c));
    if (std::string doubt = Doubt(c); !doubt.empty()) verdict.warnings.push_back(std::move(doubt));
  }
  verdict.accepted = verdict.regressions.empty();
  return verdict;
}

std::vector<std::string> DamageWarnings(const std::vector<Comparison>& comparisons) {
  std::vector<std::string> warnings;
  for (const Comparison& c : comparisons) {
    if (!c.is_perplexity() || 1 + c.change <= kDestroyedRatio) continue;
    warnings.push_back(fmt::format(
        "destroyed: {}: perplexity {:.4g} → {:.4g}, × {}; a model that is more than {:g} times as "
        "perplexed as before writes nothing of use",
        c.name, c.baseline, c.value, Number(1 + c.change, 3), kDestroyedRatio));
  }
  return warnings;
}

const Comparison* WorstOf(const std::vector<Comparison>& comparisons) {
  const Comparison* worst = nullptr;
  for (const Comparison& c : comparisons) {
    if (c.accepted || !c.limit) continue;
    if (worst == nullptr || IsWorse(c, *worst)) worst = &c;
  }
  return worst;
}

bool IsWorse(const Comparison& a, const Comparison& b) { return Excess(a) > Excess(b); }

std::string RegressionText(const Comparison& c) {
  if (c.is_perplexity()) {
    return fmt::format("{}: perplexity {:.4g} → {:.4g}, more than {:.3g} % higher", c.name,
                       c.baseline, c.value, 100 * *c.limit);
  }
  return fmt::format("{}: {} {:.3f} → {:.3f}, more than {:.3g} lower", c.name, c.metric, c.baseline,
                     c.value, *c.limit);
}

}  // namespace svdllm
