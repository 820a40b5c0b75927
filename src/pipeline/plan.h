// Checks of a request against its model, and what it would cost: used by PlanCompress and as the
// opening of RunCompress.
#pragma once

#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "pipeline/job_spec.h"
#include "pipeline/work.h"

namespace svdllm {

// A linear layer in scope.
struct Target {
  int64_t layer = 0;
  LinearId id = LinearId::kQ;
  std::string name;   // "model.layers.0.self_attn.q_proj"
  std::string group;  // "q_proj": what an allocation compares
  int64_t rows = 0, cols = 0;
};

// Every linear of every layer, in the order in which the forward pass reaches them.
std::vector<Target> Targets(const Checkpoint& checkpoint);

// 0 becomes the default for this model; a length beyond the model's positions is INVALID_ARGUMENT.
absl::StatusOr<int64_t> ResolveSeqLen(int64_t seq_len, const ModelConfig& config,
                                      const std::string& what);

// The same for every text of an evaluation.
absl::StatusOr<std::vector<PerplexitySpec>> ResolveSeqLens(std::vector<PerplexitySpec> texts,
                                                           const ModelConfig& config);

// The spec with every 0 that means "default" filled in, or what is wrong with it.
absl::StatusOr<CompressSpec> ResolveCompress(const CompressSpec& spec,
                                             const Checkpoint& checkpoint);

// spec: resolved.
CompressPlan MakePlan(const CompressSpec& spec, const Checkpoint& checkpoint);

// Whether the statistics of the dense model may be output Grams where these are smaller: pivoted
// factors are refitted after rounding, which takes the Gram of the inputs.
inline bool WantsOutputGrams(const CompressSpec& spec) { return spec.encoding == Encoding::kPlain; }

// What bounds the ranks of one artifact.
RankRules RulesOf(const CompressSpec& spec, double keep_ratio);

// The uniform ranks of one keep ratio a row, a target each.
std::vector<std::vector<int64_t>> UniformRanks(const CompressSpec& spec,
                                               const std::vector<Target>& targets);

}  // namespace svdllm
