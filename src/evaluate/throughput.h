// How fast a model computes: prompts of random tokens (prefill), continued greedily from a cache of
// keys and values (decode). The whole model is in the backend's memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "job/progress.h"
#include "job/spec.h"
#include "model/decoder.h"

namespace svdllm {

// Fills in what a prompt length of 0 means for the model, and sorts the batch sizes.
// INVALID_ARGUMENT where the model, or any model, cannot be measured with these; the message names
// the member below `field`, such as "throughput".
absl::StatusOr<ThroughputSpec> ResolveThroughput(const ThroughputSpec& spec,
                                                 const ModelConfig& config,
                                                 const std::string& field);

// Tokens per second, of all sequences together.
struct ThroughputRound {
  double prefill = 0, decode = 0;
};
// Times one round. Every sequence has its own prompt, the same in every call. Tokens are chosen on
// the host, and that is counted. prompt_tokens >= 1, new_tokens >= 2. NUMERICAL_FAILURE where a
// logit is not finite.
absl::StatusOr<ThroughputRound> RunThroughputRound(Decoder& decoder, const ModelConfig& config,
                                                   int64_t batch_size, int64_t prompt_tokens,
                                                   int64_t new_tokens);
// Summarizes the rates of at least one round.
RateSummary SummarizeRates(std::vector<double> rates);

// Returns one result per batch size, each measured after a round that warms up. `spec` is resolved.
// Advances progress by ThroughputFlops and resets the backend's peak. An error names its batch
// size; above all these are HOST_OUT_OF_MEMORY and DEVICE_OUT_OF_MEMORY.
absl::StatusOr<std::vector<ThroughputResult>> MeasureThroughput(const Checkpoint& checkpoint,
                                                                const ThroughputSpec& spec,
                                                                Backend& backend,
                                                                Progress& progress);
double ThroughputFlops(const Checkpoint& checkpoint, const ThroughputSpec& spec);

}  // namespace svdllm
