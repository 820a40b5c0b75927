#include "report/charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "report/escape.h"

namespace svdllm {
namespace {

// Left of the first layer, for the names of the rows; and a row's height.
constexpr double kMargin = 84, kRow = 22;

using Color = std::array<double, 3>;

std::string Mix(const std::vector<Color>& stops, double share) {
  if (!(share > 0)) share = 0;  // NaN too
  const double place = std::min(share, 1.0) * static_cast<double>(stops.size() - 1);
  const size_t i = std::min(static_cast<size_t>(place), stops.size() - 2);
  const double part = place - static_cast<double>(i);
  std::string color = "#";
  for (size_t c = 0; c < 3; ++c) {
    color +=
        fmt::format("{:02x}", std::lround(stops[i][c] + part * (stops[i + 1][c] - stops[i][c])));
  }
  return color;
}

// Layers as wide as fits beside each other, but not below 8 pixels.
double CellWidth(const MatrixGrid& grid) {
  return std::clamp(900.0 / static_cast<double>(std::max<int64_t>(grid.layers, 1)), 8.0, 90.0);
}

std::string OpenFigure(double width, double height, const std::string& label) {
  return fmt::format(
      "<div class=\"scroll\"><svg role=\"img\" aria-label=\"{}\" width=\"{:.0f}\" "
      "height=\"{:.0f}\" "
      "viewBox=\"0 0 {:.0f} {:.0f}\">",
      Escape(label), width, height, width, height);
}

// The layers' numbers, as many as there is room for.
std::string LayerAxis(const MatrixGrid& grid, double y) {
  const double cell = CellWidth(grid);
  const int64_t step = std::max<int64_t>(1, std::lround(std::ceil(26 / cell)));
  std::string axis;
  for (int64_t layer = 0; layer < grid.layers; layer += step) {
    axis += fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"middle\">{}</text>",
                        kMargin + cell * (static_cast<double>(layer) + 0.5), y, layer);
  }
  return axis + fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"end\">layer</text>",
                            kMargin - 8, y);
}

std::string Percent(double part) { return fmt::format("{:.2f}%", 100 * part); }

}  // namespace

std::string HeatColor(double share) {
  static const auto& stops =
      *new std::vector<Color>{{43, 52, 130}, {42, 112, 150}, {86, 170, 130}, {240, 220, 120}};
  return Mix(stops, share);
}

std::string LineColor(double share) {
  static const auto& stops =
      *new std::vector<Color>{{52, 110, 214}, {140, 132, 150}, {226, 134, 24}};
  return Mix(stops, share);
}

std::string DotRow(const std::vector<Dot>& dots, double low, double high,
                   const std::string& label) {
  const auto place = [&](double value) {
    return Percent(high > low ? std::clamp((value - low) / (high - low), 0.0, 1.0) : 0.5);
  };
  std::string row = fmt::format(
      "<svg role=\"img\" aria-label=\"{}\" width=\"100%\" height=\"30\" overflow=\"visible\">"
      "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"15\" y2=\"15\"/>",
      Escape(label));
  // One above the other: intervals that overlap stay apart.
  for (const Dot& dot : dots) {
    if (!std::isfinite(dot.value)) continue;
    const char* kind = dot.after ? "after" : "before";
    const int y = dots.size() < 2 ? 15 : dot.after ? 20 : 10;
    if (dot.half_width > 0) {
      const std::string from = place(dot.value - dot.half_width);
      const std::string to = place(dot.value + dot.half_width);
      row += fmt::format("<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", kind, from,
                         to, y, y);
      for (const std::string& end : {from, to}) {
        row += fmt::format("<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", kind,
                           end, end, y - 3, y + 3);
      }
    }
    row += fmt::format("<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"4\"/>", kind, place(dot.value),
                       y);
  }
  return row + "</svg>";
}

std::string DotAxis(double low, double high, const std::function<std::string(double)>& tick_label,
                    bool logarithmic) {
  std::string axis = "<svg aria-hidden=\"true\" width=\"100%\" height=\"18\" overflow=\"visible\">";
  for (const double part : {0.0, 0.5, 1.0}) {
    const double value = logarithmic ? low * std::pow(high / low, part) : low + part * (high - low);
    axis += fmt::format("<text x=\"{}\" y=\"13\" text-anchor=\"{}\">{}</text>", Percent(part),
                        part == 0   ? "start"
                        : part == 1 ? "end"
                                    : "middle",
                        Escape(tick_label(value)));
  }
  return axis + "</svg>";
}

std::string SizeQualityCurve(std::vector<CurvePoint> points, const std::string& y_label,
                             bool logarithmic) {
  constexpr double kLeft = 92, kTop = 44, kWide = 522, kHigh = 190;
  std::sort(points.begin(), points.end(),
            [](const CurvePoint& a, const CurvePoint& b) { return a.percent < b.percent; });
  double low = INFINITY, high = -INFINITY;
  std::string label = y_label + " by size of the weights:";
  const auto scaled = [logarithmic](double value) { return logarithmic ? std::log(value) : value; };
  for (const CurvePoint& point : points) {
    low = std::min(low, scaled(point.value));
    high = std::max(high, scaled(point.value));
    label += fmt::format(" {} {:.4g} at {:.1f} %;", point.label, point.value, point.percent);
  }
  const double margin = high > low ? 0.1 * (high - low) : 0.1;
  low -= margin, high += margin;
  const double left = std::floor(points.front().percent / 10) * 10;
  const double right = std::max(left + 10, std::ceil(points.back().percent / 10) * 10);
  const auto x = [&](double percent) { return kLeft + kWide * (percent - left) / (right - left); };
  const auto y = [&](double place) { return kTop + kHigh * (high - place) / (high - low); };
  std::string curve = fmt::format(
      "<svg class=\"curve\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 640 290\">"
      "<text x=\"0\" y=\"16\">{}</text>",
      Escape(label), Escape(y_label));
  for (const double part : {0.0, 0.5, 1.0}) {
    const double place = low + part * (high - low), percent = left + part * (right - left);
    curve += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.3g}</text>"
        "<text x=\"{6:.1f}\" y=\"{7}\" text-anchor=\"middle\">{8:.0f} %</text>",
        kLeft, kLeft + kWide, y(place), kLeft - 8, y(place) + 4,
        logarithmic ? std::exp(place) : place, x(percent), kTop + kHigh + 18, percent);
  }
  curve += fmt::format(
      "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">weights, of the model before</text>"
      "<polyline class=\"line\" points=\"",
      kLeft + kWide / 2, kTop + kHigh + 42);
  std::string dots;
  for (const CurvePoint& point : points) {
    const double at_x = x(point.percent), at_y = y(scaled(point.value));
    curve += fmt::format("{:.1f},{:.1f} ", at_x, at_y);
    dots += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"/><text class=\"value\" "
        "x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>",
        point.own ? "after" : "before", at_x, at_y, point.own ? 6 : 4, at_x, at_y - 11,
        at_x > kLeft + 0.9 * kWide ? "end" : "middle", Escape(point.label));
  }
  return curve + "\"/>" + dots + "</svg>";
}

MatrixGrid GridOf(const std::vector<MatrixReport>& matrices) {
  constexpr std::string_view kLayers = ".layers.";
  MatrixGrid grid;
  for (const MatrixReport& matrix : matrices) {
    const size_t found = matrix.name.find(kLayers);
    if (found == std::string::npos) continue;
    int64_t layer = -1;
    const char* end = matrix.name.data() + matrix.name.size();
    const auto number = std::from_chars(matrix.name.data() + found + kLayers.size(), end, layer);
    if (number.ec != std::errc() || layer < 0 || layer > 100000) continue;
    const std::string kind = matrix.name.substr(matrix.name.rfind('.') + 1);
    const auto known = std::find(grid.kinds.begin(), grid.kinds.end(), kind);
    const auto index = static_cast<size_t>(known - grid.kinds.begin());
    if (known == grid.kinds.end()) grid.kinds.push_back(kind);
    grid.layers = std::max(grid.layers, layer + 1);
    grid.cells.push_back({layer, index, &matrix});
  }
  return grid;
}

std::string HeatMap(const MatrixGrid& grid,
                    const std::function<std::optional<double>(const MatrixReport&)>& share,
                    const std::function<std::string(const MatrixReport&)>& tip,
                    const std::string& label) {
  const double cell = CellWidth(grid);
  const double height = kRow * static_cast<double>(grid.kinds.size());
  std::string map =
      OpenFigure(kMargin + cell * static_cast<double>(grid.layers) + 12, height + 20, label);
  for (size_t i = 0; i < grid.kinds.size(); ++i) {
    map += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"end\">{}</text>", kMargin - 8,
                       kRow * (static_cast<double>(i) + 0.68), Escape(grid.kinds[i]));
  }
  for (const MatrixGrid::Cell& c : grid.cells) {
    const std::optional<double> place = share(*c.matrix);
    // Half a pixel in: the outline of a dense one is as large as the others' fill.
    map += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" {}>",
                       kMargin + cell * static_cast<double>(c.layer) + 0.5,
                       kRow * static_cast<double>(c.kind) + 0.5, cell - 1, kRow - 1,
                       place ? "fill=\"" + HeatColor(*place) + "\"" : "class=\"dense\"");
    map += "<title>" + Escape(tip(*c.matrix)) + "</title></rect>";
  }
  return map + LayerAxis(grid, height + 15) + "</svg></div>";
}

std::string LossBars(const MatrixGrid& grid, const std::string& label) {
  struct Layer {
    double sum = 0, least = 0, most = 0;
    int64_t count = 0;
  };
  std::vector<Layer> layers(static_cast<size_t>(grid.layers));
  double most = 0;
  for (const MatrixGrid::Cell& c : grid.cells) {
    const double loss = c.matrix->relative_loss;
    if (c.matrix->rank == 0 || !std::isfinite(loss)) continue;
    Layer& layer = layers[static_cast<size_t>(c.layer)];
    layer.least = layer.count == 0 ? loss : std::min(layer.least, loss);
    layer.most = std::max(layer.most, loss);
    layer.sum += loss;
    ++layer.count;
    most = std::max(most, loss);
  }
  if (most <= 0) most = 1;
  constexpr double kHeight = 120, kTop = 8;
  const auto y = [&](double loss) { return kTop + kHeight * (1 - loss / most); };
  const double cell = CellWidth(grid);
  const double width = kMargin + cell * static_cast<double>(grid.layers);
  std::string bars = OpenFigure(width + 12, kTop + kHeight + 20, label);
  for (const double part : {0.0, 0.5, 1.0}) {
    bars += fmt::format(
        "<line class=\"grid\" x1=\"{:.0f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text "
        "x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3g}</text>",
        kMargin, width, y(part * most), y(part * most), kMargin - 8, y(part * most) + 4,
        part * most);
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    if (layer.count == 0) continue;
    const double mean = layer.sum / static_cast<double>(layer.count);
    const double x = kMargin + cell * static_cast<double>(i);
    bars += fmt::format(
        "<g><title>layer {}: mean {:.3g}, from {:.3g} to {:.3g}</title><rect class=\"bar\" "
        "x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/><line class=\"whisker\" "
        "x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/></g>",
        i, mean, layer.least, layer.most, x + 0.15 * cell, y(mean), 0.7 * cell, y(0) - y(mean),
        x + cell / 2, x + cell / 2, y(layer.least), y(layer.most));
  }
  return bars + LayerAxis(grid, kTop + kHeight + 15) + "</svg></div>";
}

std::string SpectrumPanel(const MatrixGrid& grid, size_t kind) {
  constexpr double kLeft = 38, kTop = 8, kWide = 194, kHigh = 112;
  std::string lines, cuts;
  int64_t drawn = 0;
  for (const MatrixGrid::Cell& c : grid.cells) {
    const std::vector<float>& spectrum = c.matrix->spectrum;
    if (c.kind != kind || spectrum.size() < 2) continue;
    if (!std::all_of(spectrum.begin(), spectrum.end(), [](float x) { return std::isfinite(x); })) {
      continue;
    }
    ++drawn;
    const double steps = static_cast<double>(spectrum.size() - 1);
    const double depth =
        grid.layers > 1 ? static_cast<double>(c.layer) / static_cast<double>(grid.layers - 1) : 0;
    const auto y = [&](double loss) { return kTop + kHigh * (1 - std::clamp(loss, 0.0, 1.0)); };
    lines += "<polyline class=\"spectrum\" stroke=\"" + LineColor(depth) + "\" points=\"";
    for (size_t i = 0; i < spectrum.size(); ++i) {
      lines += fmt::format("{}{:.0f},{:.1f}", i > 0 ? " " : "",
                           kLeft + kWide * static_cast<double>(i) / steps, y(spectrum[i]));
    }
    lines += "\"/>";
    if (c.matrix->rank == 0) continue;
    const double place =
        std::min(1.0, static_cast<double>(c.matrix->rank) /
                          static_cast<double>(std::min(c.matrix->rows, c.matrix->cols)));
    const size_t i = std::min(static_cast<size_t>(place * steps), spectrum.size() - 2);
    const double part = place * steps - static_cast<double>(i);
    cuts += fmt::format("<circle class=\"cut\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.6\" fill=\"{}\"/>",
                        kLeft + kWide * place,
                        y(spectrum[i] + part * (spectrum[i + 1] - spectrum[i])), LineColor(depth));
  }
  if (drawn == 0) return "";
  const std::string name = Escape(grid.kinds[kind]);
  std::string panel = fmt::format(
      "<div><h3>{}</h3><svg role=\"img\" aria-label=\"{}: loss by rank, {} matrices\" "
      "viewBox=\"0 0 240 168\"><text x=\"{}\" y=\"164\" text-anchor=\"middle\">rank</text>"
      "<text x=\"8\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 8 {})\">loss</text>",
      name, name, drawn, kLeft + kWide / 2, kTop + kHigh / 2, kTop + kHigh / 2);
  for (const double part : {0.0, 0.5, 1.0}) {
    const double x = kLeft + kWide * part, y = kTop + kHigh * (1 - part);
    panel += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/><line class=\"grid\" "
        "x1=\"{3}\" x2=\"{3}\" y1=\"{4}\" y2=\"{5}\"/><text x=\"{6}\" y=\"{7}\" "
        "text-anchor=\"end\">{8:.1f}</text><text x=\"{3}\" y=\"{9}\" "
        "text-anchor=\"{11}\">{10:.0f} %</text>",
        kLeft, kLeft + kWide, y, x, kTop, kTop + kHigh, kLeft - 5, y + 4, part, kTop + kHigh + 16,
        100 * part, part < 1 ? "middle" : "end");
  }
  panel += lines + cuts;
  return panel + "</svg></div>";
}

}  // namespace svdllm
