#include "report/side_by_side.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "report/charts.h"
#include "report/damage.h"
#include "report/names.h"

namespace svdllm {
namespace {

// A standard error to half of a 95 % interval.
constexpr double kInterval = 1.96;

struct Range {
  double low = 0, high = 0;
};

// Of the logarithm.
double HalfWidth(const PerplexityResult& p) {
  return p.log_std_error > 0 ? kInterval * p.log_std_error : 0;
}

// How a figure changed, and how bad that is.
Data ChangeData(const SideBySide& c, const std::string& name, const std::string& metric) {
  const Comparison* const found = FindComparison(c.comparisons, name, metric);
  if (found == nullptr) return DataObject{{"text", "–"}, {"damage", ""}, {"rejected", false}};
  return DataObject{{"text", ChangeText(*found)},
                    {"damage", DamageClass(DamageOf(*found))},
                    {"rejected", !found->accepted}};
}

Range PerplexityRange(const SideBySide& c) {
  Range range{INFINITY, 0};
  for (const auto* list : {&c.before.perplexities, &c.after.perplexities}) {
    for (const PerplexityResult& p : *list) {
      if (!std::isfinite(p.perplexity) || p.perplexity <= 0) continue;
      range.low = std::min(range.low, p.perplexity * std::exp(-HalfWidth(p)));
      range.high = std::max(range.high, p.perplexity * std::exp(HalfWidth(p)));
    }
  }
  if (range.high <= 0) range = {1, 1};
  return {range.low / 1.05, range.high * 1.05};
}

Data PerplexityRow(const SideBySide& c, const PerplexityResult& after, const Range& range) {
  const PerplexityResult* before = FindNamed(c.before.perplexities, after.name);
  std::vector<Dot> dots;
  std::string label = after.name + ": ";
  if (before) {
    dots.push_back({std::log(before->perplexity), HalfWidth(*before), false});
    label += std::string(c.before_name) + " " + WithError(*before) + ", ";
  }
  dots.push_back({std::log(after.perplexity), HalfWidth(after), true});
  label += std::string(c.after_name) + " " + WithError(after);
  return DataObject{{"name", after.name},
                    {"held_out", after.held_out},
                    {"windows", fmt::to_string(after.windows)},
                    {"plot", DotRow(dots, std::log(range.low), std::log(range.high), label)},
                    {"before", before ? WithError(*before) : "–"},
                    {"after", WithError(after)},
                    {"change", ChangeData(c, after.name, Comparison::kPerplexityMetric)}};
}

Data PerplexityData(const SideBySide& c) {
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
Range ShareRange(const SideBySide& c) {
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
Data MetricRow(const SideBySide& c, const TaskResult& task, const TaskMetric& after,
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
  return DataObject{{"name", task.name},
                    {"items", fmt::to_string(task.items)},
                    {"repeats", !first},
                    {"metric", after.name},
                    {"plot", IsShare(after) ? DotRow(dots, range.low, range.high, label) : ""},
                    {"before", before ? WithError(*before) : "–"},
                    {"after", WithError(after)},
                    {"change", ChangeData(c, task.name, after.name)}};
}

Data TaskData(const SideBySide& c) {
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

RateSpread SpreadOf(const RateSummary& rate) { return {rate.median, rate.least, rate.largest}; }

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
                    {"ratio", before ? SpeedRatio(SpreadOf(before->*rate), SpreadOf(after.*rate),
                                                  after.repetitions)
                                     : "–"}};
}

Data SpeedData(const SideBySide& c) {
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

// "valid.jsonl (1.20 MB, SHA-256 0a1b2c3d4e5f…)"
std::string FileText(const DataFile& file) {
  if (file.sha256.empty()) return "a file that is not recorded";
  return fmt::format("{} ({}, SHA-256 {}…)", BaseName(file.uri), Bytes(file.bytes),
                     file.sha256.substr(0, 12));
}

std::string LimitText(int64_t limit) {
  return limit > 0 ? fmt::format(", limited to {}", limit) : "";
}

}  // namespace

Data SizeData(std::string (*text)(int64_t), int64_t before, int64_t after) {
  return DataObject{{"before", text(before)},
                    {"after", text(after)},
                    {"change", Change(static_cast<double>(before), static_cast<double>(after))}};
}

void SetMeasured(const SideBySide& pair, Data& page) {
  page["before_name"] = pair.before_name ? Data(pair.before_name) : Nothing();
  page["after_name"] = pair.after_name;
  page["perplexity"] = PerplexityData(pair);
  page["tasks"] = TaskData(pair);
  page["speed"] = SpeedData(pair);
}

void SetSources(const MeasureSpec& measure, const Figures& figures, Data& page) {
  DataList sources;
  for (const PerplexityResult& p : figures.perplexities) {
    const PerplexitySpec* const spec = FindNamed(measure.texts, p.name);
    std::string text = fmt::format("{}: {} windows of up to {} tokens, {} tokens predicted",
                                   FileText(p.data), p.windows, p.seq_len, p.predicted_tokens);
    if (p.held_out) text += ", which calibration did not use";
    if (spec != nullptr) {
      text += ", packing " + PackingName(spec->text.packing) + LimitText(spec->limit);
    }
    sources.push_back(DataObject{{"name", p.name}, {"text", text}});
  }
  for (const TaskResult& task : figures.tasks) {
    const TaskSpec* const spec = FindNamed(measure.tasks, task.name);
    std::string text;
    for (const DataFile& file : task.data) text += (text.empty() ? "" : ", ") + FileText(file);
    text += fmt::format("{}{} questions, {} examples in front", text.empty() ? "" : ": ",
                        task.items, task.num_fewshot);
    if (spec != nullptr) text += LimitText(spec->limit);
    sources.push_back(DataObject{{"name", task.name + " (" + task.task + ")"}, {"text", text}});
  }
  page["sources"] = sources;
}

}  // namespace svdllm
