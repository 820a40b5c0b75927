// How bad what a model lost is: the words and the colours of reports.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "job/result.h"

namespace svdllm {

// Of a perplexity up to × 1.05, × 1.25, × 2, × 10 and beyond; of a task's metric up to 0.01, 0.03
// and 0.1 lower and beyond, but kNone within two standard errors of the change.
enum class Damage { kNone, kSmall, kClear, kHeavy, kDestroyed };
Damage DamageOf(const Comparison& comparison);
// "hardly a loss", …, "destroyed".
std::string_view DamageWords(Damage damage);
// The class of assets/report.css: "damage-0" to "damage-4".
std::string DamageClass(Damage damage);

// The figure that speaks for all: that of the worst damage, of perplexities and of each task's
// first metric; of several of these a perplexity, and the one that lost most. nullptr where nothing
// was compared.
const Comparison* Headline(const std::vector<Comparison>& comparisons);

const Comparison* FindComparison(const std::vector<Comparison>& comparisons,
                                 const std::string& name, const std::string& metric);

// "× 1.184 ± 0.012" of a perplexity, "-0.070 ± 0.009" of a metric; the error where it is known.
std::string ChangeText(const Comparison& comparison);

// "17.32 ± 0.25", of which the error is that of the logarithm times the perplexity.
std::string WithError(const PerplexityResult& perplexity);

// "16.0 % smaller, perplexity × 1.184 ± 0.012 (wikitext): a small loss".
std::string Conclusion(int64_t bytes_before, int64_t bytes_after,
                       const std::vector<Comparison>& comparisons);

}  // namespace svdllm
