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

// What a model is measured by, read and encoded: a MeasureSpec with its files opened.
struct MeasureJob {
  std::vector<TextWindows> texts;
  std::vector<TaskData> tasks;
  ThroughputSpec throughput;  // resolved

  bool empty() const { return texts.empty() && tasks.empty() && !throughput.any(); }
};

// What a model answered to one question.
struct Answer {
  std::vector<double> log_likelihoods;  // multiple choice
  std::string text;                     // generation
  std::vector<double> scores;           // one per metric of the task
};

struct Measured {
  Figures figures;
  std::vector<WindowLosses> losses;  // losses[1]: of the second text
  std::vector<std::vector<Answer>>
      answers;  // answers[1][2]: of the second task, the third question
};

// Reads and encodes the texts and the questions. `spec` is resolved for this model.
absl::StatusOr<MeasureJob> LoadMeasureJob(const MeasureSpec& spec, const Tokenizer& tokenizer,
                                          const ModelConfig& config);

// Measures a model. `what` was loaded with a tokenizer that gives the model's own ids. Advances
// progress by MeasureFlops. Where speed is measured the backend's peak is reset on the way.
absl::StatusOr<Measured> Measure(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                 const MeasureJob& what, Backend& backend, Progress& progress);
double MeasureFlops(const Checkpoint& checkpoint, const MeasureJob& what);

}  // namespace svdllm
