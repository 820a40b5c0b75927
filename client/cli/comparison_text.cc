#include "client/cli/comparison_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/format.h"

namespace svdllm::cli {
namespace {

constexpr char kPerplexityMetric[] = "perplexity";

bool IsPerplexity(const v1::Comparison& comparison) {
  return comparison.metric() == kPerplexityMetric;
}

std::string Value(const v1::Comparison& comparison, double value) {
  return IsPerplexity(comparison) ? Perplexity(value) : absl::StrFormat("%.3f", value);
}

// "+50 % ± 1.2 %", from twice on "× 2.5 ± 0.012"; "-0.017 ± 0.012"
std::string ChangeOf(const v1::Comparison& comparison) {
  const double change = comparison.change(), error = comparison.std_error();
  const char* const sign = change > 0 ? "+" : "";
  std::string text = absl::StrFormat("%s%.3f", sign, change),
              spread = absl::StrFormat("%.3f", error);
  if (IsPerplexity(comparison) && change >= 1) {
    text = absl::StrCat("× ", Number(1 + change));
    spread = Number(error, 2);
  } else if (IsPerplexity(comparison)) {
    text = absl::StrCat(sign, Number(100 * change, 3), " %");
    spread = absl::StrCat(Number(100 * error, 2), " %");
  }
  return comparison.has_std_error() ? absl::StrCat(text, " ± ", spread) : text;
}

std::string LimitOf(const v1::Comparison& comparison) {
  if (!comparison.has_limit()) return "-";
  return IsPerplexity(comparison) ? absl::StrCat("+", Number(100 * comparison.limit()), " %")
                                  : absl::StrCat("-", Number(comparison.limit()));
}

}  // namespace

std::string ComparisonTable(const std::string& before, const std::vector<ComparedModel>& models) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "figure", "metric", before, "after", "change ± error", "limit", ""}};
  for (const ComparedModel& model : models) {
    for (const v1::Comparison& c : *model.comparisons) {
      rows.push_back({model.title, c.name(), c.metric(), Value(c, c.baseline()),
                      Value(c, c.value()), ChangeOf(c), LimitOf(c),
                      c.accepted() ? "" : "REJECTED"});
    }
  }
  if (rows.size() == 1) return "";
  const bool limits =
      std::any_of(rows.begin() + 1, rows.end(), [](const auto& row) { return row[6] != "-"; });
  for (std::vector<std::string>& row : rows) {
    if (!limits) row.resize(6);
    if (models.size() == 1) row.erase(row.begin());
  }
  return absl::StrCat("\n", Table(rows));
}

std::string VerdictText(const v1::Verdict& verdict, const Comparisons& comparisons) {
  const auto judged = std::count_if(comparisons.begin(), comparisons.end(),
                                    [](const v1::Comparison& c) { return c.has_limit(); });
  std::string text = verdict.accepted() ? "ACCEPTED" : "REJECTED";
  if (judged > 0) {
    absl::StrAppend(&text, ": ", verdict.accepted() ? judged : verdict.regressions_size(), " of ",
                    judged, " figures", verdict.accepted() ? " keep to the threshold" : "");
  }
  absl::StrAppend(&text, "\n");
  for (const std::string& line : verdict.regressions()) absl::StrAppend(&text, "  ", line, "\n");
  return absl::StrCat(text, WarningLines("", verdict.warnings()));
}

}  // namespace svdllm::cli
