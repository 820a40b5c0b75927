// What a model is measured by: perplexity on texts, tasks, and speed.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "evaluate/perplexity.h"
#include "evaluate/prompts.h"
#include "evaluate/throughput.h"
#include "job/progress.h"

namespace svdllm {

struct Measurements {
  std::vector<EvaluationData> texts;
  std::vector<TaskData> tasks;
  ThroughputSpec throughput;  // resolved

  bool empty() const { return texts.empty() && tasks.empty() && !throughput.any(); }
};

// What a model answered to one question.
struct Answer {
  std::vector<double> log_likelihoods;  // multiple choice
  std::string text;                     // generation
  std::vector<double> scores;           // one a metric of the task
};

struct Figures {
  std::vector<PerplexityResult> perplexities;
  std::vector<TaskResult> tasks;
  std::vector<std::vector<Answer>> answers;  // task by task, question by question
  std::vector<ThroughputResult> throughputs;
};

// Reads and encodes the texts and the questions. seq_len of the texts: resolved. throughput is left
// to the caller.
absl::StatusOr<Measurements> LoadMeasurements(const std::vector<PerplexitySpec>& texts,
                                              const std::vector<TaskSpec>& tasks,
                                              const Tokenizer& tokenizer,
                                              const ModelConfig& config);

// what: loaded with a tokenizer that gives the model's own ids. Advances the log by MeasureFlops.
// The backend's peak is reset on the way where speed is measured.
absl::StatusOr<Figures> Measure(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                const Measurements& what, Backend& backend, RunLog& log);
double MeasureFlops(const Checkpoint& checkpoint, const Measurements& what);

}  // namespace svdllm
