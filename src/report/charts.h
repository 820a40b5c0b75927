// The figures of report.html: inline SVG, each with its text alternative, in the style of
// assets/report.css.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "job/result.h"

namespace svdllm {

// A share in [0, 1] on the scale of the heat maps, and on that of the lines, as "#rrggbb". Both
// change in lightness or between blue and orange: they read the same with any colour vision.
std::string HeatColor(double share);
std::string LineColor(double share);

// One figure of a model with its 95 % interval: value ± half_width. after: the filled dot.
struct Dot {
  double value = 0;
  double half_width = 0;  // 0: none is drawn
  bool after = false;
};
// A row's dots on the axis from low to high, or the axis itself where there are none; as wide as
// what it stands in. label: its text alternative.
std::string DotRow(const std::vector<Dot>& dots, double low, double high, const std::string& label);
std::string DotAxis(double low, double high, const std::function<std::string(double)>& tick_label,
                    bool logarithmic);

// A model by its size, in percent of the model before, and its quality.
struct CurvePoint {
  double percent = 0;
  double value = 0;
  std::string label;
  bool own = false;  // the one whose page it is
};
// Quality over size, points joined in the order of their sizes. Values are finite, and positive
// where the scale is logarithmic; at least two points.
std::string SizeQualityCurve(std::vector<CurvePoint> points, const std::string& y_label,
                             bool logarithmic);

// The matrices of an artifact by layer and kind ("q_proj").
struct MatrixGrid {
  struct Cell {
    int64_t layer = 0;
    size_t kind = 0;
    const MatrixReport* matrix = nullptr;
  };
  int64_t layers = 0;
  std::vector<std::string> kinds;  // in order of appearance
  std::vector<Cell> cells;
};
// Matrices whose name has no layer's number in it are left out. matrices must outlive the grid.
MatrixGrid GridOf(const std::vector<MatrixReport>& matrices);

// A rectangle a matrix, layers from left to right. share: the place on the scale in [0, 1], or
// nothing where the matrix stayed dense; tip: what a pointer over it shows.
std::string HeatMap(const MatrixGrid& grid,
                    const std::function<std::optional<double>(const MatrixReport&)>& share,
                    const std::function<std::string(const MatrixReport&)>& tip,
                    const std::string& label);
// Each layer's mean relative loss, with the least and the largest of its matrices.
std::string LossBars(const MatrixGrid& grid, const std::string& label);
// The spectra of one kind's matrices and where they were cut; empty where there are none.
std::string SpectrumPanel(const MatrixGrid& grid, size_t kind);

}  // namespace svdllm
