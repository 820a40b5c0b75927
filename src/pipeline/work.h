// What a job costs before it is run: floating-point operations and memory, from shapes alone.
#pragma once

#include "model/checkpoint.h"
#include "pipeline/job_spec.h"

namespace svdllm {

// How much text a job works on: tokens, and how many precede one on average.
struct Workload {
  double tokens = 0, positions = 0;
};

// Work in floating-point operations (those in F64 count twice): what progress is measured in.
double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions);
// The statistics of one block of the dense model.
double StatisticsFlops(const CompressSpec& spec, const ModelConfig& config,
                       const Architecture& arch, double tokens);
// What the anchored method does at one site for one keep ratio: the dense stream's part, the
// compressed one's, H and the drift.
double AnchoredFlops(const ModelConfig& config, const Architecture& arch, Site site,
                     const Workload& work);
// Of one block. The other two are shares of it: eigenvalues alone, and cutting, checking and
// storing the factors of one keep ratio.
inline constexpr double kValuesShare = 0.33;
inline constexpr double kFactorShare = 0.33;
double DecomposeFlops(const ModelConfig& config, const Architecture& arch);
double HeadFlops(const ModelConfig& config, double tokens);
// Keys and values of one sequence, in a Decoder.
int64_t KvCacheBytes(const ModelConfig& config, int64_t tokens);
// A forward pass through the whole model and its head.
double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows);
// A whole compression, with perplexity before and after over the windows.
double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows);

}  // namespace svdllm
