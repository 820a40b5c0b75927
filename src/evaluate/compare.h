// Two models that were measured on the same windows and questions, figure by figure.
#pragma once

#include <vector>

#include "evaluate/measure.h"

namespace svdllm {

// Compares every figure but speed with the baseline's of the same name: perplexities, then the
// metrics of each task, in the model's order. Standard errors are those of the paired differences.
// Of a perplexity these are the differences of the windows' losses, weighted by their tokens; the
// error of the relative change is that of its logarithm times 1 + change. Windows that are not the
// same, as behind different tokenizers, give no error. Nothing has a limit yet.
std::vector<Comparison> Compare(const Measured& baseline, const Measured& model);

}  // namespace svdllm
