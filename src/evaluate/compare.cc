#include "evaluate/compare.h"

#include <cmath>

#include "tasks/scoring.h"

namespace svdllm {
namespace {

// The place of the entry with this name; the size where there is none.
template <typename Result>
size_t PlaceOf(const std::vector<Result>& results, const std::string& name) {
  size_t i = 0;
  while (i < results.size() && results[i].name != name) ++i;
  return i;
}

// Of ln(perplexity).
double ErrorOfLogChange(const WindowLosses& before, const WindowLosses& after) {
  if (before.ids_hash != after.ids_hash || before.predicted != after.predicted ||
      before.nll.size() != after.nll.size()) {
    return -1;
  }
  std::vector<double> differences;
  for (size_t w = 0; w < after.nll.size(); ++w) {
    differences.push_back(after.nll[w] - before.nll[w]);
  }
  return RatioOf(differences, after.predicted).std_error;
}

double ErrorOfChange(const std::vector<Answer>& before, const std::vector<Answer>& after,
                     size_t metric_before, size_t metric_after) {
  if (before.size() != after.size()) return -1;
  std::vector<double> differences;
  for (size_t i = 0; i < after.size(); ++i) {
    differences.push_back(after[i].scores[metric_after] - before[i].scores[metric_before]);
  }
  return Summarize(differences).std_error;
}

void CompareTask(const Measured& baseline, const Measured& model, size_t before, size_t after,
                 std::vector<Comparison>& comparisons) {
  const TaskResult& from = baseline.figures.tasks[before];
  const TaskResult& to = model.figures.tasks[after];
  for (size_t m = 0; m < to.metrics.size(); ++m) {
    const size_t other = PlaceOf(from.metrics, to.metrics[m].name);
    if (other == from.metrics.size()) continue;
    Comparison& comparison = comparisons.emplace_back();
    comparison.name = to.name;
    comparison.metric = to.metrics[m].name;
    comparison.baseline = from.metrics[other].value;
    comparison.value = to.metrics[m].value;
    comparison.change = comparison.value - comparison.baseline;
    comparison.std_error = ErrorOfChange(baseline.answers[before], model.answers[after], other, m);
  }
}

}  // namespace

std::vector<Comparison> Compare(const Measured& baseline, const Measured& model) {
  std::vector<Comparison> comparisons;
  const std::vector<PerplexityResult>& texts = baseline.figures.perplexities;
  for (size_t t = 0; t < model.figures.perplexities.size(); ++t) {
    const PerplexityResult& after = model.figures.perplexities[t];
    const size_t other = PlaceOf(texts, after.name);
    if (other == texts.size()) continue;
    Comparison& comparison = comparisons.emplace_back();
    comparison.name = after.name;
    comparison.metric = Comparison::kPerplexityMetric;
    comparison.baseline = texts[other].perplexity;
    comparison.value = after.perplexity;
    const double ratio = after.perplexity / texts[other].perplexity;
    comparison.change = ratio - 1;
    const double error = ErrorOfLogChange(baseline.losses[other], model.losses[t]);
    if (error >= 0 && std::isfinite(ratio)) comparison.std_error = error * ratio;
  }
  for (size_t t = 0; t < model.figures.tasks.size(); ++t) {
    const size_t other = PlaceOf(baseline.figures.tasks, model.figures.tasks[t].name);
    if (other == baseline.figures.tasks.size()) continue;
    CompareTask(baseline, model, other, t, comparisons);
  }
  return comparisons;
}

}  // namespace svdllm
