#include "evaluate/verdict.h"

#include <fmt/format.h>

namespace svdllm {
namespace {

// A threshold of 0.02 allows 0.40 to become 0.38, whose difference is not 0.02 in binary.
constexpr double kRounding = 1e-9;

}  // namespace

Verdict Judge(const AcceptanceThreshold& threshold, const ModelResult& model,
              const ModelResult& baseline) {
  Verdict verdict;
  if (const auto most = threshold.max_accuracy_drop) {
    for (const TaskResult& task : model.figures.tasks) {
      const TaskResult* const before = FindNamed(baseline.figures.tasks, task.name);
      if (before == nullptr || task.metrics.empty() || before->metrics.empty()) continue;
      const double from = before->metrics[0].value, to = task.metrics[0].value;
      if (from - to <= *most + kRounding) continue;
      verdict.regressions.push_back(fmt::format("{}: {} {:.3f} → {:.3f}, more than {:.3g} lower",
                                                task.name, task.metrics[0].name, from, to, *most));
    }
  }
  if (const auto most = threshold.max_perplexity_increase) {
    for (const PerplexityResult& text : model.figures.perplexities) {
      const PerplexityResult* const before = FindNamed(baseline.figures.perplexities, text.name);
      if (before == nullptr) continue;
      const double from = before->perplexity, to = text.perplexity;
      if (to / from - 1 <= *most + kRounding) continue;
      verdict.regressions.push_back(
          fmt::format("{}: perplexity {:.4g} → {:.4g}, more than {:.3g} % "
                      "higher",
                      text.name, from, to, 100 * *most));
    }
  }
  verdict.accepted = verdict.regressions.empty();
  return verdict;
}

}  // namespace svdllm
