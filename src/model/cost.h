// What a forward pass costs, from shapes alone.
#pragma once

#include "checkpoint/checkpoint.h"
#include "model/sequences.h"

namespace svdllm {

// Counts enter a sum of work as real numbers, because products of four sizes pass the range of
// integers.
inline double Real(int64_t count) { return static_cast<double>(count); }

// How much text a job works on: the number of tokens, and how many tokens precede one on average.
struct Workload {
  double tokens = 0, positions = 0;
};

// The work of one block and of the head, in floating-point operations, of which those in F64 count
// twice. Progress is measured in this unit.
double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions);

double HeadFlops(const ModelConfig& config, double tokens);

// The bytes that the keys and values of one sequence take in a Decoder.
int64_t KvCacheBytes(const ModelConfig& config, int64_t tokens);

// The work of a forward pass through the whole model and its head.
double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows);

// How much text these sequences are.
Workload WorkloadOf(const Sequences& sequences);

}  // namespace svdllm
