#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "report/assets.h"
#include "report/charts.h"
#include "report/comparison.h"
#include "report/html.h"

namespace svdllm {
namespace {

// The last part of a path or URI.
std::string BaseName(std::string uri) {
  while (!uri.empty() && uri.back() == '/') uri.pop_back();
  return uri.substr(uri.rfind('/') + 1);  // npos + 1 is 0
}

std::string Ramp(const char* from, const std::string& to, std::string (*color)(double)) {
  std::string stops;
  for (const double share : {0.0, 1.0 / 3, 0.5, 2.0 / 3, 1.0}) {
    stops += fmt::format(", {} {:.0f}%", color(share), 100 * share);
  }
  return fmt::format(
      "<span>{}<span class=\"ramp\" style=\"background: "
      "linear-gradient(90deg{})\"></span>{}</span>",
      Escape(from), stops, Escape(to));
}

struct Range {
  double least = 0, most = 0;
};
Range RangeOf(const std::vector<MatrixReport>& matrices,
              const std::function<double(const MatrixReport&)>& value) {
  Range range{INFINITY, -INFINITY};
  for (const MatrixReport& m : matrices) {
    const double v = value(m);
    if (m.rank == 0 || !std::isfinite(v)) continue;
    range.least = std::min(range.least, v);
    range.most = std::max(range.most, v);
  }
  return range.least <= range.most ? range : Range{0, 0};
}

std::string MatrixFigures(const CompressSpec& spec, const std::vector<MatrixReport>& matrices) {
  if (matrices.empty()) return "";
  const auto kept = [&](const MatrixReport& m) {
    return static_cast<double>(StoredNumbers(spec.encoding, m.rows, m.cols, m.rank)) /
           static_cast<double>(m.rows * m.cols);
  };
  const auto loss = [](const MatrixReport& m) { return m.relative_loss; };
  const auto tip = [&](const MatrixReport& m) {
    if (m.rank == 0) return fmt::format("{}: {} × {}, dense", m.name, m.rows, m.cols);
    return fmt::format("{}: rank {} of {}, {:.1f} % kept, loss {:.3g}", m.name, m.rank,
                       std::min(m.rows, m.cols), 100 * kept(m), m.relative_loss);
  };
  const auto map = [&](const MatrixGrid& grid, const auto& value, Range range,
                       const std::string& label) {
    return HeatMap(
        grid,
        [&](const MatrixReport& m) -> std::optional<double> {
          if (m.rank == 0) return std::nullopt;
          return range.most > range.least ? (value(m) - range.least) / (range.most - range.least)
                                          : 1;
        },
        tip, label);
  };
  const std::string dense_key =
      "<span><svg aria-hidden=\"true\" width=\"14\" height=\"14\"><rect class=\"dense\" x=\"1\" "
      "y=\"1\" width=\"12\" height=\"12\"/></svg>left dense</span></div>";
  const MatrixGrid grid = GridOf(matrices);
  const auto dense = std::count_if(matrices.begin(), matrices.end(),
                                   [](const MatrixReport& m) { return m.rank == 0; });
  const Range keeps = RangeOf(matrices, kept), losses = RangeOf(matrices, loss);
  const std::string summary = fmt::format("{} matrices in {} layers, {} of them dense",
                                          matrices.size(), grid.layers, dense);
  std::string rows;
  for (const MatrixReport& m : matrices) {
    rows += "<tr>" + Cell(m.name) + NumberCell(fmt::format("{} × {}", m.rows, m.cols)) +
            NumberCell(m.rank > 0 ? fmt::format("{}", m.rank) : "dense") +
            NumberCell(fmt::format("{:.1f} %", 100 * kept(m))) +
            NumberCell(m.rank > 0 ? Number(m.relative_loss, 3) : "–") + "</tr>";
  }
  std::string html = Section(
      "Rank plan", "How much of each matrix's numbers is stored.",
      "<div class=\"key\">" +
          Ramp(fmt::format("{:.0f} %", 100 * keeps.least).c_str(),
               fmt::format("{:.0f} %", 100 * keeps.most), HeatColor) +
          dense_key +
          map(grid, kept, keeps,
              fmt::format("Rank plan: {}; the others keep {:.1f} % to {:.1f} % of their numbers",
                          summary, 100 * keeps.least, 100 * keeps.most)) +
          "<details><summary>All matrices in numbers</summary><div "
          "class=\"scroll\"><table><thead><tr><th>matrix</th><th class=\"number\">shape</th><th "
          "class=\"number\">rank</th><th class=\"number\">kept</th><th class=\"number\">relative "
          "loss</th></tr></thead><tbody>" +
          rows + "</tbody></table></div></details>");
  if (static_cast<size_t>(dense) == matrices.size()) return html;
  html += Section(
      "Loss by layer",
      RowOf(spec.method).prefix == Prefix::kTarget
          ? "Of each matrix, how far its outputs are from their target on what the compressed "
            "model computes in front of it, relative to the target."
          : "Of each matrix, how far its outputs on the calibration set are from the dense one's, "
            "relative to them.",
      "<div class=\"key\">" +
          Ramp(Number(losses.least, 2).c_str(), Number(losses.most, 2), HeatColor) + dense_key +
          map(grid, loss, losses,
              fmt::format("Relative loss: {}; from {:.3g} to {:.3g}", summary, losses.least,
                          losses.most)) +
          "<p>The mean of a layer's compressed matrices, with the least and the largest:</p>" +
          LossBars(grid, fmt::format("Mean relative loss of each of {} layers", grid.layers)));
  std::string panels;
  for (size_t kind = 0; kind < grid.kinds.size(); ++kind) panels += SpectrumPanel(grid, kind);
  if (!panels.empty()) {
    html +=
        Section("Spectra",
                "The relative loss that is left at each rank, from none to all of a matrix's: a "
                "line a layer. The dots are where each was cut.",
                "<div class=\"key\">" + Ramp("first layer", "last layer", LineColor) +
                    "</div><div class=\"panels\">" + panels + "</div>");
  }
  return html;
}

std::string Stages(const CompressResult& job) {
  double total = 0, most = 0;
  for (const StageTime& s : job.stages) total += s.seconds, most = std::max(most, s.seconds);
  std::string table =
      "<div class=\"scroll\"><table><thead><tr><th>stage</th><th class=\"plot\"></th><th "
      "class=\"number\">time</th><th class=\"number\">share</th></tr></thead><tbody>";
  for (const StageTime& s : job.stages) {
    table += "<tr>" + Cell(s.stage) +
             fmt::format(
                 "<td class=\"plot\"><svg aria-hidden=\"true\" width=\"100%\" height=\"14\"><rect "
                 "class=\"bar\" width=\"{:.2f}%\" height=\"14\"/></svg></td>",
                 most > 0 ? 100 * s.seconds / most : 0) +
             NumberCell(Seconds(s.seconds)) +
             NumberCell(fmt::format("{:.1f} %", total > 0 ? 100 * s.seconds / total : 0)) + "</tr>";
  }
  std::string memory = "Peak memory: " + Bytes(job.peak_host_bytes);
  if (job.peak_device_bytes > 0) memory += ", on the device " + Bytes(job.peak_device_bytes);
  return Section("Time and memory",
                 Seconds(total) + " in all on " + job.device + ". " + memory + ".",
                 table + "</tbody></table></div>");
}

std::string Page(const std::string& title, const std::string& body) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta "
         "name=\"viewport\" "
         "content=\"width=device-width, initial-scale=1\"/><meta "
         "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'\"/><title>" +
         Escape(title) + "</title>\n<style>\n" + kReportCss + "</style></head>\n<body><main>\n" +
         body + "</main></body></html>\n";
}

std::string SizeCard(const std::string& name, const std::string& before, const std::string& after,
                     const std::string& change) {
  return Card(name, after, "before " + before + ", " + change);
}

}  // namespace

std::string CompressionHtml(const CompressSpec& spec, const CompressResult& job,
                            const ArtifactResult& artifact) {
  const std::string kept = fmt::format("{:.4g} %", 100 * artifact.keep_ratio);
  const std::string title =
      BaseName(spec.model_uri) + ", " + kept + " of its linear layers' parameters kept";
  std::string body =
      "<header><h1>" + Escape(title) + "</h1><p>" +
      Escape(fmt::format("Compressed by svdllm {} with {}, {} ranks, {} factors", SVDLLM_VERSION,
                         MethodName(spec.method), AllocationName(spec.allocation),
                         EncodingName(spec.encoding))) +
      "</p></header>\n<div class=\"cards\">";
  body += SizeCard(
      "parameters", Count(job.parameters), Count(artifact.parameters),
      Change(static_cast<double>(job.parameters), static_cast<double>(artifact.parameters)));
  body += SizeCard("of the linear layers", Count(job.target_parameters),
                   Count(artifact.compressed_parameters),
                   Change(static_cast<double>(job.target_parameters),
                          static_cast<double>(artifact.compressed_parameters)));
  body += SizeCard(
      "weights on disk", Bytes(job.weight_bytes), Bytes(artifact.weight_bytes),
      Change(static_cast<double>(job.weight_bytes), static_cast<double>(artifact.weight_bytes)));
  if (!artifact.figures.perplexities.empty()) {
    const PerplexityResult& after = artifact.figures.perplexities.front();
    const PerplexityResult* before = FindNamed(job.before.perplexities, after.name);
    body += Card(after.name, Number(after.perplexity),
                 before ? "before " + Number(before->perplexity) + ", × " +
                              Number(after.perplexity / before->perplexity)
                        : "");
  }
  body += "</div>\n";
  const Comparison comparison{"before", "after", job.before, artifact.figures};
  body += PerplexitySection(comparison) + TaskSection(comparison) + SpeedSection(comparison);
  body += MatrixFigures(spec, artifact.matrices) + Stages(job);
  std::string sources;
  for (const CalibrationSource& source : spec.calibration.sources) {
    if (!sources.empty()) sources += ", ";
    sources += source.model_samples ? "the model's own samples" : BaseName(source.text.path);
  }
  body +=
      Section("How it was made",
              "Every figure is in compression_report.json too, and what they mean in README.md.",
              List({{"model", spec.model_uri},
                    {"method", MethodName(spec.method)},
                    {"keep ratio", fmt::format("{:.4g}", artifact.keep_ratio)},
                    {"ranks", AllocationName(spec.allocation)},
                    {"factors", EncodingName(spec.encoding)},
                    {"output", OutputFormatName(spec.output_format)},
                    {"calibrated on",
                     fmt::format("{} sequences of up to {} tokens: {}", spec.calibration.samples,
                                 spec.calibration.seq_len, sources)},
                    {"device", job.device},
                    {"job", spec.job_id}}));
  return Page(title, body);
}

std::string EvaluationHtml(const EvaluateSpec& spec, const EvaluateResult& result) {
  const std::string model = BaseName(spec.model_uri);
  const std::string title = "Evaluation of " + model;
  std::string body = "<header><h1>" + Escape(title) + "</h1><p>" +
                     Escape("Measured by svdllm " SVDLLM_VERSION " on " + result.device) +
                     "</p></header>\n<div class=\"cards\">";
  if (result.verdict) {
    body += Card("verdict", result.verdict->accepted ? "accepted ✓" : "regression ✗",
                 fmt::format("{} figures past the threshold", result.verdict->regressions.size()),
                 result.verdict->accepted ? "good" : "bad");
  }
  const ModelResult* baseline = result.baseline ? &*result.baseline : nullptr;
  const auto card = [&](const char* name, std::string (*text)(int64_t), int64_t value,
                        int64_t base) {
    return Card(name, text(value),
                baseline ? "baseline " + text(base) + ", " +
                               Change(static_cast<double>(base), static_cast<double>(value))
                         : "");
  };
  body += card("parameters", Count, result.model.parameters, baseline ? baseline->parameters : 0);
  body += card("weights", Bytes, result.model.weight_bytes, baseline ? baseline->weight_bytes : 0);
  body +=
      Card("peak memory", Bytes(result.peak_host_bytes),
           result.peak_device_bytes > 0 ? "on the device " + Bytes(result.peak_device_bytes) : "") +
      "</div>\n";
  if (result.verdict && !result.verdict->regressions.empty()) {
    std::string list = "<ul>";
    for (const std::string& regression : result.verdict->regressions) {
      list += "<li>" + Escape(regression) + "</li>";
    }
    body +=
        Section("Past the threshold", "What the model loses against its baseline.", list + "</ul>");
  }
  const Figures none;
  const Comparison comparison{baseline ? "baseline" : nullptr, "model",
                              baseline ? baseline->figures : none, result.model.figures};
  body += PerplexitySection(comparison) + TaskSection(comparison) + SpeedSection(comparison);
  std::vector<std::pair<std::string, std::string>> how = {{"model", spec.model_uri}};
  if (baseline) how.push_back({"baseline", spec.baseline_uri});
  if (spec.threshold.max_accuracy_drop) {
    how.push_back({"accuracy may drop by", Number(*spec.threshold.max_accuracy_drop)});
  }
  if (spec.threshold.max_perplexity_increase) {
    how.push_back({"perplexity may grow by",
                   fmt::format("{:.4g} %", 100 * *spec.threshold.max_perplexity_increase)});
  }
  double seconds = 0;
  for (const TaskResult& t : result.model.figures.tasks) seconds += t.seconds;
  for (const ThroughputResult& t : result.model.figures.throughputs) seconds += t.seconds;
  for (const PerplexityResult& p : result.model.figures.perplexities) seconds += p.seconds;
  how.push_back({"computing, this model", Seconds(seconds)});
  how.push_back({"device", result.device});
  return Page(
      title,
      body +
          Section("How it was measured",
                  std::string("Every figure is in evaluation_report.json too") +
                      (spec.measure.tasks.empty() ? "." : ", every answer in predictions.jsonl."),
                  List(how)));
}

}  // namespace svdllm
