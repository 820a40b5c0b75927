#include "evaluate/measure.h"

#include <chrono>

#include "evaluate/choices.h"
#include "evaluate/generation.h"
#include "tasks/scoring.h"

namespace svdllm {
namespace {

std::vector<TaskMetric> Metrics(const TaskRow& task, const std::vector<Answer>& answers) {
  std::vector<TaskMetric> metrics;
  for (size_t m = 0; m < task.metrics.size(); ++m) {
    std::vector<double> values;
    for (const Answer& answer : answers) values.push_back(answer.scores[m]);
    const MeanAndError summary = Summarize(values);
    metrics.push_back({std::string(task.metrics[m]), summary.mean, summary.std_error});
  }
  return metrics;
}

absl::StatusOr<std::vector<Answer>> Ask(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                        const TaskData& data, Backend& backend, Progress& progress,
                                        int64_t* tokens) {
  std::vector<Answer> answers(data.items.size());
  if (data.task->kind == TaskKind::kGeneration) {
    ASSIGN_OR_RETURN(std::vector<std::string> texts,
                     GenerateTexts(checkpoint, tokenizer, data, backend, progress, tokens));
    for (size_t i = 0; i < answers.size(); ++i) {
      answers[i].scores = data.task->score(data.items[i], texts[i]);
      answers[i].text = std::move(texts[i]);
    }
    return answers;
  }
  ASSIGN_OR_RETURN(auto log_likelihoods,
                   LogLikelihoods(checkpoint, data, backend, progress, tokens));
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].scores = ScoreChoices(data.task->metrics, data.items[i], log_likelihoods[i]);
    answers[i].log_likelihoods = std::move(log_likelihoods[i]);
  }
  return answers;
}

}  // namespace

absl::StatusOr<MeasureJob> LoadMeasureJob(const MeasureSpec& spec, const Tokenizer& tokenizer,
                                          const ModelConfig& config) {
  MeasureJob what;
  what.throughput = spec.throughput;
  for (const PerplexitySpec& text : spec.texts) {
    ASSIGN_OR_RETURN(what.texts.emplace_back(), CutWindows(text, tokenizer, config));
  }
  for (const TaskSpec& task : spec.tasks) {
    ASSIGN_OR_RETURN(what.tasks.emplace_back(), LoadTask(task, tokenizer, config));
  }
  return what;
}

absl::StatusOr<Measured> Measure(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                 const MeasureJob& what, Backend& backend, Progress& progress) {
  Measured measured;
  Figures& figures = measured.figures;
  // First: a batch that does not fit is found out before the long work.
  ASSIGN_OR_RETURN(figures.throughputs,
                   MeasureThroughput(checkpoint, what.throughput, backend, progress));
  for (const TextWindows& text : what.texts) {
    ASSIGN_OR_RETURN(
        figures.perplexities.emplace_back(),
        MeasurePerplexity(checkpoint, text, backend, progress, &measured.losses.emplace_back()));
  }
  for (const TaskData& data : what.tasks) {
    const auto start = std::chrono::steady_clock::now();
    TaskResult result;
    result.task = data.spec.task;
    result.name = data.spec.name;
    result.items = static_cast<int64_t>(data.items.size());
    result.data = data.files;
    result.num_fewshot = data.spec.num_fewshot;
    ASSIGN_OR_RETURN(std::vector<Answer> answers,
                     Ask(checkpoint, tokenizer, data, backend, progress, &result.tokens));
    result.metrics = Metrics(*data.task, answers);
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    figures.tasks.push_back(std::move(result));
    measured.answers.push_back(std::move(answers));
  }
  return measured;
}

double MeasureFlops(const Checkpoint& checkpoint, const MeasureJob& what) {
  double flops = PerplexityFlops(checkpoint, WorkloadOf(what.texts)) +
                 ThroughputFlops(checkpoint, what.throughput);
  for (const TaskData& data : what.tasks) {
    flops += data.task->kind == TaskKind::kGeneration ? GenerationFlops(checkpoint, data)
                                                      : ChoiceFlops(checkpoint, data);
  }
  return flops;
}

}  // namespace svdllm
