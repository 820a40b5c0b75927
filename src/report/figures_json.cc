#include "report/figures_json.h"

#include <nlohmann/json.hpp>

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

Json PerplexitiesJson(const std::vector<PerplexityResult>& perplexities) {
  Json list = Json::array();
  for (const PerplexityResult& p : perplexities) {
    Json entry = {{"name", p.name},
                  {"perplexity", p.perplexity},
                  {"predicted_tokens", p.predicted_tokens},
                  {"windows", p.windows},
                  {"leftover_tokens", p.leftover_tokens},
                  {"seconds", p.seconds},
                  {"prefill_tokens_per_second", p.tokens_per_second},
                  {"held_out", p.held_out},
                  {"seq_len", p.seq_len}};
    if (p.window_start) entry["window_start"] = WindowStartName(*p.window_start);
    list.push_back(std::move(entry));
  }
  return list;
}

std::vector<PerplexityResult> PerplexitiesFrom(const Json& list) {
  std::vector<PerplexityResult> perplexities;
  for (const Json& p : list) {
    perplexities.push_back({p.at("name"), p.at("perplexity"), p.at("predicted_tokens"),
                            p.at("windows"), p.at("leftover_tokens"), p.at("seconds"),
                            p.at("prefill_tokens_per_second"), p.value("held_out", false),
                            p.value("seq_len", int64_t{0}), WindowStartFrom(p)});
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
    list.push_back({{"name", task.name},
                    {"task", task.task},
                    {"metrics", std::move(metrics)},
                    {"items", task.items},
                    {"tokens", task.tokens},
                    {"seconds", task.seconds}});
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
          {metric.at("name"), metric.at("value"), metric.value("std_error", -1.0)});
    }
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

}  // namespace

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

}  // namespace svdllm
