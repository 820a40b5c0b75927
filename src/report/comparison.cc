#include "report/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/charts.h"
#include "report/html.h"

namespace svdllm {
namespace {

// A standard error to half of a 95 % interval.
constexpr double kInterval = 1.96;

std::string Key(const Comparison& names) {
  const auto dot = [](const char* kind, const std::string& text) {
    return fmt::format(
        "<span><svg aria-hidden=\"true\" width=\"12\" height=\"12\"><circle class=\"{}\" cx=\"6\" "
        "cy=\"6\" r=\"4\"/></svg>{}</span>",
        kind, text);
  };
  return "<div class=\"key\">" +
         (names.before_name ? dot("before", names.before_name) : std::string()) +
         dot("after", names.after_name) + "</div>";
}

std::string TableHead(const std::string& first, const Comparison& names, const std::string& axis,
                      const char* last) {
  std::string head =
      "<div class=\"scroll\"><table><thead><tr>" + first + "<th class=\"plot\">" + axis + "</th>";
  if (names.before_name) head += fmt::format("<th class=\"number\">{}</th>", names.before_name);
  head += fmt::format("<th class=\"number\">{}</th>", names.after_name);
  if (names.before_name) head += fmt::format("<th class=\"number\">{}</th>", last);
  return head + "</tr></thead><tbody>";
}

}  // namespace

std::string PerplexitySection(const Comparison& c) {
  if (c.after.perplexities.empty()) return "";
  double low = INFINITY, high = 0;
  for (const auto* list : {&c.before.perplexities, &c.after.perplexities}) {
    for (const PerplexityResult& p : *list) {
      if (!std::isfinite(p.perplexity) || p.perplexity <= 0) continue;
      low = std::min(low, p.perplexity);
      high = std::max(high, p.perplexity);
    }
  }
  if (high <= 0) low = high = 1;
  low /= 1.05, high *= 1.05;
  std::string table = TableHead("<th>text</th>", c,
                                DotAxis(
                                    low, high, [](double value) { return Number(value, 3); }, true),
                                "ratio");
  bool held_out = false;
  for (const PerplexityResult& after : c.after.perplexities) {
    const PerplexityResult* before = FindNamed(c.before.perplexities, after.name);
    held_out |= after.held_out;
    std::vector<Dot> dots;
    std::string label = after.name + ": ";
    if (before) {
      dots.push_back({std::log(before->perplexity), 0, false});
      label += std::string(c.before_name) + " " + Number(before->perplexity) + ", ";
    }
    dots.push_back({std::log(after.perplexity), 0, true});
    label += std::string(c.after_name) + " " + Number(after.perplexity);
    table += "<tr><td>" + Escape(after.name + (after.held_out ? ", in domain" : "")) +
             fmt::format("<br/><span class=\"quiet\">{} windows</span></td>", after.windows) +
             "<td class=\"plot\">" + DotRow(dots, std::log(low), std::log(high), label) + "</td>";
    if (c.before_name) table += NumberCell(before ? Number(before->perplexity) : "–");
    table += NumberCell(Number(after.perplexity));
    if (c.before_name) {
      table += NumberCell(before ? "× " + Number(after.perplexity / before->perplexity) : "–");
    }
    table += "</tr>";
  }
  return Section("Perplexity",
                 std::string("Less is better; the scale is logarithmic.") +
                     (held_out ? " In domain: on windows of the calibration text that calibration "
                                 "did not see, not to be compared with published figures."
                               : ""),
                 Key(c) + table + "</tbody></table></div>");
}

namespace {

// Shares are drawn, points of 100 are only listed.
bool IsShare(const TaskMetric& metric) {
  return metric.name != "bleu_max" && metric.name != "bleu_diff";
}

double HalfWidth(const TaskMetric& metric) {
  return metric.std_error > 0 ? kInterval * metric.std_error : 0;
}

std::string WithError(const TaskMetric& metric) {
  const int digits = IsShare(metric) ? 4 : 2;
  if (!std::isfinite(metric.value)) return "–";
  std::string text = fmt::format("{:.{}f}", metric.value, digits);
  if (metric.std_error >= 0) text += fmt::format(" ± {:.{}f}", metric.std_error, digits);
  return text;
}

}  // namespace

std::string TaskSection(const Comparison& c) {
  if (c.after.tasks.empty()) return "";
  double low = 1, high = 0;
  for (const auto* list : {&c.before.tasks, &c.after.tasks}) {
    for (const TaskResult& task : *list) {
      for (const TaskMetric& m : task.metrics) {
        if (!IsShare(m) || !std::isfinite(m.value)) continue;
        low = std::min(low, m.value - HalfWidth(m));
        high = std::max(high, m.value + HalfWidth(m));
      }
    }
  }
  low = std::max(0.0, std::floor(low * 10) / 10);
  high = std::max(low + 0.1, std::min(1.0, std::ceil(high * 10) / 10));
  std::string table =
      TableHead("<th>task</th><th>metric</th>", c,
                DotAxis(
                    low, high, [](double value) { return fmt::format("{:.2f}", value); }, false),
                "change");
  for (const TaskResult& task : c.after.tasks) {
    const TaskResult* before_task = FindNamed(c.before.tasks, task.name);
    for (size_t i = 0; i < task.metrics.size(); ++i) {
      const TaskMetric& after = task.metrics[i];
      const TaskMetric* before =
          before_task ? FindNamed(before_task->metrics, after.name) : nullptr;
      std::vector<Dot> dots;
      std::string label = task.name + " " + after.name + ": ";
      if (before) {
        dots.push_back({before->value, HalfWidth(*before), false});
        label += std::string(c.before_name) + " " + WithError(*before) + ", ";
      }
      dots.push_back({after.value, HalfWidth(after), true});
      label += std::string(c.after_name) + " " + WithError(after);
      table += "<tr>";
      table += i > 0
                   ? Cell("")
                   : "<td>" + Escape(task.name) +
                         fmt::format("<br/><span class=\"quiet\">{} items</span></td>", task.items);
      table += Cell(after.name) + "<td class=\"plot\">" +
               (IsShare(after) ? DotRow(dots, low, high, label) : "") + "</td>";
      if (c.before_name) table += NumberCell(before ? WithError(*before) : "–");
      table += NumberCell(WithError(after));
      if (c.before_name) {
        table += NumberCell(
            before ? fmt::format("{:+.{}f}", after.value - before->value, IsShare(after) ? 4 : 2)
                   : "–");
      }
      table += "</tr>";
    }
  }
  return Section("Tasks",
                 "The lines are 95 % intervals: 1.96 standard errors, which the table gives behind "
                 "the ±, to either side. More is better.",
                 Key(c) + table + "</tbody></table></div>");
}

std::string SpeedSection(const Comparison& c) {
  if (c.after.throughputs.empty()) return "";
  const bool compares = c.before_name != nullptr;
  std::string table =
      "<div class=\"scroll\"><table><thead><tr><th class=\"number\">batch size</th><th></th>";
  if (compares) table += fmt::format("<th class=\"number\">{}</th>", c.before_name);
  table += fmt::format("<th class=\"number\">{}</th>", c.after_name);
  if (compares) table += "<th class=\"number\">ratio</th>";
  table += "</tr></thead><tbody>";
  for (const ThroughputResult& after : c.after.throughputs) {
    const auto found =
        std::find_if(c.before.throughputs.begin(), c.before.throughputs.end(),
                     [&](const ThroughputResult& t) { return t.batch_size == after.batch_size; });
    const ThroughputResult* before = found == c.before.throughputs.end() ? nullptr : &*found;
    const auto row = [&](const char* what, auto text, auto value) {
      table += "<tr>" + NumberCell(fmt::format("{}", after.batch_size)) + Cell(what);
      if (compares) table += before ? text(*before) : NumberCell("–");
      table += text(after);
      if (compares) {
        table += NumberCell(before ? "× " + Number(value(after) / value(*before), 3) : "–");
      }
      table += "</tr>";
    };
    const auto rate_row = [&](const char* what, RateSummary ThroughputResult::*rate) {
      row(
          what,
          [&](const ThroughputResult& t) {
            const RateSummary& r = t.*rate;
            return fmt::format(
                "<td class=\"number\">{}<br/><span class=\"quiet\">{} to {}</span></td>",
                Rate(r.median), Rate(r.least), Rate(r.largest));
          },
          [&](const ThroughputResult& t) { return (t.*rate).median; });
    };
    rate_row("prefill, tokens/s", &ThroughputResult::prefill);
    rate_row("decode, tokens/s", &ThroughputResult::decode);
    row(
        "peak memory",
        [](const ThroughputResult& t) { return NumberCell(Bytes(t.peak_memory_bytes)); },
        [](const ThroughputResult& t) { return static_cast<double>(t.peak_memory_bytes); });
  }
  const ThroughputResult& first = c.after.throughputs.front();
  return Section(
      "Speed",
      fmt::format(
          "Prompts of {} random tokens, {} new tokens each, chosen greedily. Medians of {} "
          "rounds behind one that warmed up, with the least and the largest{}. Memory is that "
          "of weights, caches and buffers. Other programs and devices differ.",
          first.prompt_tokens, first.new_tokens, first.repetitions,
          compares ? "; one model after the other" : ""),
      table + "</tbody></table></div>");
}

}  // namespace svdllm
