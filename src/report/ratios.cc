#include "report/ratios.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/format.h"
#include "report/charts.h"
#include "report/damage.h"

namespace svdllm {
namespace {

// The figures that every artifact has in common: every perplexity, and each task's first metric.
std::vector<const Comparison*> CommonFigures(const std::vector<Comparison>& comparisons) {
  std::vector<const Comparison*> figures;
  for (const Comparison& c : comparisons) {
    const bool repeats = !figures.empty() && figures.back()->name == c.name;
    if (!repeats) figures.push_back(&c);
  }
  return figures;
}

std::string Title(const Comparison& c) {
  return c.is_perplexity() ? c.name : c.name + ", " + c.metric;
}

Data Row(const CompressResult& job, const ArtifactResult& artifact, bool is_own,
         const std::vector<const Comparison*>& figures) {
  DataList cells;
  for (const Comparison* figure : figures) {
    const Comparison* const c = FindComparison(artifact.comparisons, figure->name, figure->metric);
    cells.push_back(DataObject{{"name", Title(*figure)},
                               {"change", c == nullptr ? "–" : ChangeText(*c)},
                               {"damage", c == nullptr ? "" : DamageClass(DamageOf(*c))}});
  }
  return DataObject{{"keep_ratio", fmt::format("{:.4g}", artifact.keep_ratio)},
                    {"is_own", is_own},
                    {"parameters", Count(artifact.parameters)},
                    {"weights", Bytes(artifact.weight_bytes)},
                    {"smaller", Change(static_cast<double>(job.weight_bytes),
                                       static_cast<double>(artifact.weight_bytes))},
                    {"cells", cells},
                    {"rejected", artifact.rejected()}};
}

// The model before and the artifacts by size, for the figure that speaks for them all.
Data Curve(const CompressResult& job, const ArtifactResult& artifact) {
  const Comparison* const headline = Headline(artifact.comparisons);
  if (headline == nullptr || job.weight_bytes <= 0) return Nothing();
  std::vector<CurvePoint> points = {{100, headline->baseline, "before", false}};
  for (const ArtifactResult& other : job.artifacts) {
    const Comparison* const c = FindComparison(other.comparisons, headline->name, headline->metric);
    if (c == nullptr || !std::isfinite(c->value)) continue;
    points.push_back(
        {100 * static_cast<double>(other.weight_bytes) / static_cast<double>(job.weight_bytes),
         c->value, fmt::format("{:.4g}", other.keep_ratio),
         other.keep_ratio == artifact.keep_ratio});
  }
  if (points.size() < 3) return Nothing();
  const bool logarithmic = headline->is_perplexity();
  const std::string title = logarithmic ? "perplexity, " + headline->name : Title(*headline);
  return Data(SizeQualityCurve(points, title + (logarithmic ? ", logarithmic" : ""), logarithmic));
}

}  // namespace

void SetRatios(const CompressResult& job, const ArtifactResult& artifact, Data& page) {
  page["ratios"] = Nothing();
  if (job.artifacts.size() < 2) return;
  const std::vector<const Comparison*> figures = CommonFigures(artifact.comparisons);
  DataList names, rows;
  for (const Comparison* figure : figures) names.push_back(DataObject{{"name", Title(*figure)}});
  for (const ArtifactResult& other : job.artifacts) {
    rows.push_back(Row(job, other, other.keep_ratio == artifact.keep_ratio, figures));
  }
  page["ratios"] = DataObject{{"curve", Curve(job, artifact)}, {"names", names}, {"rows", rows}};
}

}  // namespace svdllm
