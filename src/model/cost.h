// What a forward pass costs, from shapes alone.
#pragma once

#include "checkpoint/checkpoint.h"
#include "model/sequences.h"

namespace svdllm {

// Counts enter a sum of work as reals: products of four sizes pass the range of integers.
inline double Real(int64_t count) { return static_cast<double>(count); }

// How much text a job works on: tokens, and how many precede one on average.
struct Workload {
  double tokens = 0, positions = 0;
};

// Work in floating-point operations (those in F64 count twice): what progress is measured in.
double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions);

double HeadFlops(const ModelConfig& config, double tokens);

// Keys and values of one sequence, in a Decoder.
int64_t KvCacheBytes(const ModelConfig& config, int64_t tokens);

// A forward pass through the whole model and its head.
double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows);

// Of sequences as they are, in the unit of plan.h.
Workload WorkloadOf(const Sequences& sequences);

}  // namespace svdllm
