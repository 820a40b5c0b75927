// What a model may lose, and what it has lost.
#pragma once

#include <string>
#include <vector>

#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// Returns whether the model keeps to the threshold beside its baseline, and sets limit and accepted
// of what the threshold looks at: every perplexity, and the first metric of each task, all of whose
// comparisons stand together. A figure that is not finite does not keep to it. Limits below two
// standard errors are warned about, but for those that are broken by more than that.
Verdict Judge(const AcceptanceThreshold& threshold, std::vector<Comparison>& comparisons);

// Returns what has to be said of the figures whether or not there is a threshold: which of them are
// those of a destroyed model.
std::vector<std::string> DamageWarnings(const std::vector<Comparison>& comparisons);

// The refused comparison that is furthest past its limit, in multiples of it. nullptr where none
// is refused.
const Comparison* WorstOf(const std::vector<Comparison>& comparisons);
// Whether refused comparison a is further past its limit than b.
bool IsWorse(const Comparison& a, const Comparison& b);
// Of a refused comparison: "wiki: perplexity 10 → 11.01, more than 10 % higher".
std::string RegressionText(const Comparison& comparison);

}  // namespace svdllm
