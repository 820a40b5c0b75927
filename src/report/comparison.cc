#include "report/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "report/charts.h"

namespace svdllm {
namespace {

// A standard error to half of a 95 % interval.
constexpr double kInterval = 1.96;

struct Range {
  double low = 0, high = 0;
};

Range PerplexityRange(const Comparison& c) {
  Range range{INFINITY, 0};
  for (const auto* list : {&c.before.perplexities, &c.after.perplexities}) {
    for (const PerplexityResult& p : *list) {
      if (!std::isfinite(p.perplexity) || p.perplexity <= 0) continue;
      range.low = std::min(range.low, p.perplexity);
      range.high = std::max(range.high, p.perplexity);
    }
  }
  if (range.high <= 0) range = {1, 1};
  return {range.low / 1.05, range.high * 1.05};
}

Data PerplexityRow(const Comparison& c, const PerplexityResult& after, const Range& range) {
  const PerplexityResult* before = FindNamed(c.before.perplexities, after.name);
  std::vector<Dot> dots;
  std::string label = after.name + ": ";
  if (before) {
    dots.push_back({std::log(before->perplexity), 0, false});
    label += std::string(c.before_name) + " " + Number(before->perplexity) + ", ";
  }
  dots.push_back({std::log(after.perplexity), 0, true});
  label += std::string(c.after_name) + " " + Number(after.perplexity);
  return DataObject{{"name", after.name},
                    {"held_out", after.held_out},
                    {"windows", fmt::to_string(after.windows)},
                    {"plot", DotRow(dots, std::log(range.low), std::log(range.high), label)},
                    {"before", before ? Number(before->perplexity) : "–"},
                    {"after", Number(after.perplexity)},
                    {"ratio", before ? "× " + Number(after.perplexity / before->perplexity) : "–"}};
}

Data PerplexityData(const Comparison& c) {
  if (c.after.perplexities.empty()) return Nothing();
  const Range range = PerplexityRange(c);
  DataList rows;
  bool held_out = false;
  for (const PerplexityResult& after : c.after.perplexities) {
    held_out |= after.held_out;
    rows.push_back(PerplexityRow(c, after, range));
  }
  const auto tick = [](double value) { return Number(value, 3); };
  return DataObject{{"axis", DotAxis(range.low, range.high, tick, true)},
                    {"any_held_out", held_out},
                    {"rows", rows}};
}

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

// Of the shares with their intervals, rounded outwards to tenths.
Range ShareRange(const Comparison& c) {
  Range range{1, 0};
  for (const auto* list : {&c.before.tasks, &c.after.tasks}) {
    for (const TaskResult& task : *list) {
      for (const TaskMetric& m : task.metrics) {
        if (!IsShare(m) || !std::isfinite(m.value)) continue;
        range.low = std::min(range.low, m.value - HalfWidth(m));
        range.high = std::max(range.high, m.value + HalfWidth(m));
      }
    }
  }
  range.low = std::max(0.0, std::floor(range.low * 10) / 10);
  range.high = std::max(range.low + 0.1, std::min(1.0, std::ceil(range.high * 10) / 10));
  return range;
}

// before is null where the other model has no such metric.
Data MetricRow(const Comparison& c, const TaskResult& task, const TaskMetric& after,
               const TaskMetric* before, const Range& range) {
  std::vector<Dot> dots;
  std::string label = task.name + " " + after.name + ": ";
  if (before) {
    dots.push_back({before->value, HalfWidth(*before), false});
    label += std::string(c.before_name) + " " + WithError(*before) + ", ";
  }
  dots.push_back({after.value, HalfWidth(after), true});
  label += std::string(c.after_name) + " " + WithError(after);
  const bool first = &after == &task.metrics.front();
  const Data heading =
      first ? Data(DataObject{{"name", task.name}, {"items", fmt::to_string(task.items)}})
            : Nothing();
  return DataObject{{"task", heading},
                    {"metric", after.name},
                    {"plot", IsShare(after) ? DotRow(dots, range.low, range.high, label) : ""},
                    {"before", before ? WithError(*before) : "–"},
                    {"after", WithError(after)},
                    {"change", before ? fmt::format("{:+.{}f}", after.value - before->value,
                                                    IsShare(after) ? 4 : 2)
                                      : "–"}};
}

Data TaskData(const Comparison& c) {
  if (c.after.tasks.empty()) return Nothing();
  const Range range = ShareRange(c);
  DataList rows;
  for (const TaskResult& task : c.after.tasks) {
    const TaskResult* before_task = FindNamed(c.before.tasks, task.name);
    for (const TaskMetric& after : task.metrics) {
      const TaskMetric* before =
          before_task ? FindNamed(before_task->metrics, after.name) : nullptr;
      rows.push_back(MetricRow(c, task, after, before, range));
    }
  }
  const auto tick = [](double value) { return fmt::format("{:.2f}", value); };
  return DataObject{{"axis", DotAxis(range.low, range.high, tick, false)}, {"rows", rows}};
}

std::string Ratio(double before, double after) { return "× " + Number(after / before, 3); }

Data RateData(const ThroughputResult* before, const ThroughputResult& after,
              RateSummary ThroughputResult::*rate) {
  const auto one = [rate](const ThroughputResult* t) {
    if (!t) return Nothing();
    const RateSummary& r = t->*rate;
    return Data(DataObject{
        {"median", Rate(r.median)}, {"least", Rate(r.least)}, {"largest", Rate(r.largest)}});
  };
  return DataObject{{"before", one(before)},
                    {"after", one(&after)},
                    {"ratio", before ? Ratio((before->*rate).median, (after.*rate).median) : "–"}};
}

Data SpeedData(const Comparison& c) {
  if (c.after.throughputs.empty()) return Nothing();
  DataList batches;
  for (const ThroughputResult& after : c.after.throughputs) {
    const auto found =
        std::find_if(c.before.throughputs.begin(), c.before.throughputs.end(),
                     [&](const ThroughputResult& t) { return t.batch_size == after.batch_size; });
    const ThroughputResult* before = found == c.before.throughputs.end() ? nullptr : &*found;
    const Data memory =
        DataObject{{"before", before ? Bytes(before->peak_memory_bytes) : "–"},
                   {"after", Bytes(after.peak_memory_bytes)},
                   {"ratio", before ? Ratio(static_cast<double>(before->peak_memory_bytes),
                                            static_cast<double>(after.peak_memory_bytes))
                                    : "–"}};
    batches.push_back(DataObject{{"batch_size", fmt::to_string(after.batch_size)},
                                 {"prefill", RateData(before, after, &ThroughputResult::prefill)},
                                 {"decode", RateData(before, after, &ThroughputResult::decode)},
                                 {"memory", memory}});
  }
  const ThroughputResult& first = c.after.throughputs.front();
  return DataObject{{"prompt_tokens", fmt::to_string(first.prompt_tokens)},
                    {"new_tokens", fmt::to_string(first.new_tokens)},
                    {"rounds", fmt::to_string(first.repetitions)},
                    {"batches", batches}};
}

}  // namespace

Data SizeData(std::string (*text)(int64_t), int64_t before, int64_t after) {
  return DataObject{{"before", text(before)},
                    {"after", text(after)},
                    {"change", Change(static_cast<double>(before), static_cast<double>(after))}};
}

void SetMeasured(const Comparison& comparison, Data& page) {
  page["before_name"] = comparison.before_name ? Data(comparison.before_name) : Nothing();
  page["after_name"] = comparison.after_name;
  page["perplexity"] = PerplexityData(comparison);
  page["tasks"] = TaskData(comparison);
  page["speed"] = SpeedData(comparison);
}

}  // namespace svdllm
