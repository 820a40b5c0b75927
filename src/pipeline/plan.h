// Checks of a request against its model, and what it would cost: used by PlanCompress and as the
// opening of RunCompress.
#pragma once

#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "pipeline/job_spec.h"

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

// The spec with every 0 that means "default" filled in, or what is wrong with it.
absl::StatusOr<CompressSpec> ResolveCompress(const CompressSpec& spec,
                                             const Checkpoint& checkpoint);

// spec: resolved.
CompressPlan MakePlan(const CompressSpec& spec, const Checkpoint& checkpoint);

// Work in floating-point operations (those in F64 count twice): what progress is measured in.
// positions: how many tokens precede one on average, for attention.
double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions);
double StatisticsFlops(const ModelConfig& config, const Architecture& arch, Statistic statistic,
                       double tokens);
// Of one block. The other two are shares of it: eigenvalues alone, and cutting, checking and
// storing the factors of one keep ratio.
inline constexpr double kValuesShare = 0.33;
inline constexpr double kFactorShare = 0.33;
double DecomposeFlops(const ModelConfig& config, const Architecture& arch);
double HeadFlops(const ModelConfig& config, double tokens);

// How much text a job works on: tokens, and how many precede one on average.
struct Workload {
  double tokens = 0, positions = 0;
};
// A forward pass through the whole model and its head.
double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows);
// A whole compression, with perplexity before and after over the windows.
double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows);

}  // namespace svdllm
