#include "report/figures_json.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

Json FileJson(const DataFile& file) {
  return {{"uri", file.uri}, {"sha256", file.sha256}, {"bytes", file.bytes}};
}

DataFile FileFrom(const Json& json) {
  return {json.at("uri"), json.at("sha256"), json.at("bytes")};
}

// JSON has null for what is not finite.
double NumberFrom(const Json& json) {
  return json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
}

Json PerplexitiesJson(const std::vector<PerplexityResult>& perplexities) {
  Json list = Json::array();
  for (const PerplexityResult& p : perplexities) {
    Json entry = {{"name", p.name}, {"perplexity", p.perplexity}};
    if (p.log_std_error >= 0) entry["log_std_error"] = p.log_std_error;
    entry.update({
        {"predicted_tokens", p.predicted_tokens},
        {"windows", p.windows},
        {"seq_len", p.seq_len},
        {"leftover_tokens", p.leftover_tokens},
        {"seconds", p.seconds},
        {"prefill_tokens_per_second", p.tokens_per_second},
        {"held_out", p.held_out},
        {"data", FileJson(p.data)},
    });
    if (p.window_start) entry["window_start"] = WindowStartName(*p.window_start);
    list.push_back(std::move(entry));
  }
  return list;
}

std::vector<PerplexityResult> PerplexitiesFrom(const Json& list) {
  std::vector<PerplexityResult> perplexities;
  for (const Json& p : list) {
    PerplexityResult& result = perplexities.emplace_back(PerplexityResult{
        p.at("name"), NumberFrom(p.at("perplexity")), p.at("predicted_tokens"), p.at("windows"),
        p.at("leftover_tokens"), p.at("seconds"), p.at("prefill_tokens_per_second"),
        p.value("held_out", false), p.value("seq_len", int64_t{0}), WindowStartFrom(p)});
    if (p.contains("data")) result.data = FileFrom(p.at("data"));
    result.log_std_error = p.value("log_std_error", -1.0);
  }
  return perplexities;
}

Json TasksJson(const std::vector<TaskResult>& tasks) {
  Json list = Json::array();
  for (const TaskResult& task : tasks) {
    Json metrics = Json::array();
    for (const TaskMetric& metric : task.metrics) {
      Json entry = {{"name", metric.name}, {"value", metric.value}};
      if (metric.std_error >= 0) entry["std_error"] = metric.std_error;
      metrics.push_back(std::move(entry));
    }
    Json files = Json::array();
    for (const DataFile& file : task.data) files.push_back(FileJson(file));
    list.push_back({{"name", task.name},
                    {"task", task.task},
                    {"metrics", std::move(metrics)},
                    {"items", task.items},
                    {"num_fewshot", task.num_fewshot},
                    {"tokens", task.tokens},
                    {"seconds", task.seconds},
                    {"data", std::move(files)}});
  }
  return list;
}

std::vector<TaskResult> TasksFrom(const Json& list) {
  std::vector<TaskResult> tasks;
  for (const Json& entry : list) {
    TaskResult task{entry.at("task"),  entry.at("name"),   {},
                    entry.at("items"), entry.at("tokens"), entry.at("seconds")};
    for (const Json& metric : entry.at("metrics")) {
      task.metrics.push_back(
          {metric.at("name"), NumberFrom(metric.at("value")), metric.value("std_error", -1.0)});
    }
    for (const Json& file : entry.value("data", Json::array())) {
      task.data.push_back(FileFrom(file));
    }
    task.num_fewshot = entry.value("num_fewshot", int64_t{0});
    tasks.push_back(std::move(task));
  }
  return tasks;
}

Json RateJson(const RateSummary& rate) {
  return {{"median", rate.median}, {"least", rate.least}, {"largest", rate.largest}};
}

RateSummary RateFrom(const Json& json) {
  return {json.at("median"), json.at("least"), json.at("largest")};
}

Json ThroughputsJson(const std::vector<ThroughputResult>& throughputs) {
  Json list = Json::array();
  for (const ThroughputResult& t : throughputs) {
    list.push_back({{"batch_size", t.batch_size},
                    {"prompt_tokens", t.prompt_tokens},
                    {"new_tokens", t.new_tokens},
                    {"repetitions", t.repetitions},
                    {"prefill_tokens_per_second", RateJson(t.prefill)},
                    {"decode_tokens_per_second", RateJson(t.decode)},
                    {"peak_memory_bytes", t.peak_memory_bytes},
                    {"seconds", t.seconds}});
  }
  return list;
}

std::vector<ThroughputResult> ThroughputsFrom(const Json& list) {
  std::vector<ThroughputResult> throughputs;
  for (const Json& t : list) {
    throughputs.push_back({t.at("batch_size"), t.at("prompt_tokens"), t.at("new_tokens"),
                           t.at("repetitions"), RateFrom(t.at("prefill_tokens_per_second")),
                           RateFrom(t.at("decode_tokens_per_second")), t.at("peak_memory_bytes"),
                           t.at("seconds")});
  }
  return throughputs;
}

std::optional<double> OptionalFrom(const Json& json, const char* key) {
  return json.contains(key) ? std::optional<double>(json.at(key).get<double>()) : std::nullopt;
}

}  // namespace

std::string ToText(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<WindowStart> WindowStartFrom(const Json& json) {
  const std::string name = json.value("window_start", std::string());
  for (const WindowStartRow& row : WindowStarts()) {
    if (row.name == name) return row.window_start;
  }
  return std::nullopt;
}

Json FiguresJson(const Figures& figures) {
  return {{"perplexities", PerplexitiesJson(figures.perplexities)},
          {"tasks", TasksJson(figures.tasks)},
          {"throughputs", ThroughputsJson(figures.throughputs)}};
}

Figures FiguresFrom(const Json& json) {
  return {PerplexitiesFrom(json.at("perplexities")), TasksFrom(json.value("tasks", Json::array())),
          ThroughputsFrom(json.value("throughputs", Json::array()))};
}

Json MeasureJson(const MeasureSpec& measure) {
  Json texts = Json::array(), tasks = Json::array();
  for (const PerplexitySpec& text : measure.texts) {
    texts.push_back({{"name", text.name},
                     {"text", text.text.path},
                     {"packing", PackingName(text.text.packing)},
                     {"seq_len", text.seq_len},
                     {"limit", text.limit}});
  }
  for (const TaskSpec& task : measure.tasks) {
    tasks.push_back({{"name", task.name},
                     {"task", task.task},
                     {"num_fewshot", task.num_fewshot},
                     {"limit", task.limit}});
  }
  Json json = {{"texts", std::move(texts)}, {"tasks", std::move(tasks)}};
  if (const ThroughputSpec& speed = measure.throughput; speed.any()) {
    json["throughput"] = {{"batch_sizes", speed.batch_sizes},
                          {"prompt_tokens", speed.prompt_tokens},
                          {"new_tokens", speed.new_tokens},
                          {"repetitions", speed.repetitions}};
  }
  return json;
}

Json ComparisonsJson(const std::vector<Comparison>& comparisons) {
  Json list = Json::array();
  for (const Comparison& c : comparisons) {
    Json entry = {{"name", c.name},
                  {"metric", c.metric},
                  {"baseline", c.baseline},
                  {"value", c.value},
                  {"change", c.change}};
    if (c.std_error >= 0) entry["std_error"] = c.std_error;
    if (c.limit) entry["limit"] = *c.limit;
    entry["accepted"] = c.accepted;
    list.push_back(std::move(entry));
  }
  return list;
}

std::vector<Comparison> ComparisonsFrom(const Json& json) {
  std::vector<Comparison> comparisons;
  for (const Json& c : json) {
    comparisons.push_back({c.at("name"), c.at("metric"), NumberFrom(c.at("baseline")),
                           NumberFrom(c.at("value")), NumberFrom(c.at("change")),
                           c.value("std_error", -1.0), OptionalFrom(c, "limit"), c.at("accepted")});
  }
  return comparisons;
}

Json VerdictJson(const Verdict& verdict, const AcceptanceThreshold& threshold) {
  Json limits = Json::object();
  if (threshold.max_accuracy_drop) limits["max_accuracy_drop"] = *threshold.max_accuracy_drop;
  if (threshold.max_perplexity_increase) {
    limits["max_perplexity_increase"] = *threshold.max_perplexity_increase;
  }
  return {{"accepted", verdict.accepted},
          {"threshold", std::move(limits)},
          {"regressions", verdict.regressions},
          {"warnings", verdict.warnings}};
}

Verdict VerdictFrom(const Json& json) {
  using Texts = std::vector<std::string>;
  return {json.at("accepted"), json.at("regressions").get<Texts>(),
          json.value("warnings", Texts())};
}

}  // namespace svdllm
