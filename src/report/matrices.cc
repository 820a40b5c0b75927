#include "report/matrices.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "base/format.h"
#include "report/charts.h"

namespace svdllm {
namespace {

// Of a matrix's numbers.
double KeptShare(const CompressSpec& spec, const MatrixReport& m) {
  return static_cast<double>(StoredNumbers(spec.encoding, m.rows, m.cols, m.rank)) /
         static_cast<double>(m.rows * m.cols);
}

// The scale's colours, as a CSS gradient takes them.
std::string Gradient(std::string (*color)(double)) {
  std::string stops;
  for (const double share : {0.0, 1.0 / 3, 0.5, 2.0 / 3, 1.0}) {
    if (!stops.empty()) stops += ", ";
    stops += fmt::format("{} {:.0f}%", color(share), 100 * share);
  }
  return stops;
}

using MatrixValue = std::function<double(const MatrixReport&)>;

struct Range {
  double least = 0, most = 0;
};

// Closer than this, figures are the same to who looks at them.
constexpr double kAlike = 0.02;

// Of the compressed matrices.
Range RangeOf(const std::vector<MatrixReport>& matrices, const MatrixValue& value) {
  Range range{INFINITY, -INFINITY};
  for (const MatrixReport& m : matrices) {
    const double v = value(m);
    if (m.rank == 0 || !std::isfinite(v)) continue;
    range.least = std::min(range.least, v);
    range.most = std::max(range.most, v);
  }
  return range.least <= range.most ? range : Range{0, 0};
}

// The scale is from 0 to most, whatever the figures are: a rounding difference must not look like
// one that matters.
std::string Map(const CompressSpec& spec, const MatrixGrid& grid, const MatrixValue& value,
                double most, const std::string& label) {
  const auto share = [&](const MatrixReport& m) -> std::optional<double> {
    if (m.rank == 0) return std::nullopt;
    return most > 0 ? value(m) / most : 0;
  };
  const auto tip = [&](const MatrixReport& m) {
    if (m.rank == 0) return fmt::format("{}: {} × {}, dense", m.name, m.rows, m.cols);
    return fmt::format("{}: rank {} of {}, {:.1f} % kept, loss {:.3g}", m.name, m.rank,
                       std::min(m.rows, m.cols), 100 * KeptShare(spec, m), m.relative_loss);
  };
  return HeatMap(grid, share, tip, label);
}

Data RankPlanData(const CompressSpec& spec, const std::vector<MatrixReport>& matrices,
                  const MatrixGrid& grid, const std::string& summary) {
  const auto kept = [&](const MatrixReport& m) { return KeptShare(spec, m); };
  const Range range = RangeOf(matrices, kept);
  const std::string label =
      fmt::format("Rank plan: {}; the others keep {:.1f} % to {:.1f} % of their numbers", summary,
                  100 * range.least, 100 * range.most);
  DataList rows;
  for (const MatrixReport& m : matrices) {
    rows.push_back(DataObject{{"name", m.name},
                              {"shape", fmt::format("{} × {}", m.rows, m.cols)},
                              {"rank", m.rank > 0 ? Data(fmt::to_string(m.rank)) : Nothing()},
                              {"kept", fmt::format("{:.1f} %", 100 * kept(m))},
                              {"loss", m.rank > 0 ? Number(m.relative_loss, 3) : "–"}});
  }
  const bool any = range.most > 0;
  return DataObject{{"any", any},
                    {"alike", any && range.most - range.least < kAlike
                                  ? Data(fmt::format("{:.0f} %", 50 * (range.least + range.most)))
                                  : Nothing()},
                    {"least", fmt::format("{:.0f} %", 100 * range.least)},
                    {"most", fmt::format("{:.0f} %", 100 * range.most)},
                    {"colors", Gradient(HeatColor)},
                    {"map", Map(spec, grid, kept, 1, label)},
                    {"matrices", rows}};
}

Data LossData(const CompressSpec& spec, const std::vector<MatrixReport>& matrices,
              const MatrixGrid& grid, const std::string& summary) {
  const auto loss = [](const MatrixReport& m) { return m.relative_loss; };
  const Range range = RangeOf(matrices, loss);
  const std::string label =
      fmt::format("Relative loss: {}; from {:.3g} to {:.3g}", summary, range.least, range.most);
  return DataObject{
      {"of_a_target", RowOf(spec.method).prefix == Prefix::kTarget},
      {"alike", range.most - range.least < kAlike ? Data(Number((range.least + range.most) / 2, 2))
                                                  : Nothing()},
      {"least", Number(range.least, 2)},
      {"most", Number(range.most, 2)},
      {"colors", Gradient(HeatColor)},
      {"map", Map(spec, grid, loss, range.most, label)},
      {"bars",
       LossBars(grid, fmt::format("Mean relative loss of each of {} layers", grid.layers))}};
}

Data SpectraData(const MatrixGrid& grid) {
  std::string panels;
  for (size_t kind = 0; kind < grid.kinds.size(); ++kind) panels += SpectrumPanel(grid, kind);
  if (panels.empty()) return Nothing();
  return DataObject{{"colors", Gradient(LineColor)}, {"panels", panels}};
}

}  // namespace

void SetMatrices(const CompressSpec& spec, const std::vector<MatrixReport>& matrices, Data& page) {
  for (const char* part : {"rank_plan", "loss_by_layer", "spectra"}) page[part] = Nothing();
  if (matrices.empty()) return;
  const MatrixGrid grid = GridOf(matrices);
  const auto dense = std::count_if(matrices.begin(), matrices.end(),
                                   [](const MatrixReport& m) { return m.rank == 0; });
  const std::string summary = fmt::format("{} matrices in {} layers, {} of them dense",
                                          matrices.size(), grid.layers, dense);
  page["rank_plan"] = RankPlanData(spec, matrices, grid, summary);
  if (static_cast<size_t>(dense) == matrices.size()) return;
  page["loss_by_layer"] = LossData(spec, matrices, grid, summary);
  page["spectra"] = SpectraData(grid);
}

}  // namespace svdllm
