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

// With what a prompt length of 0 means for the model, and batch sizes ascending. INVALID_ARGUMENT
// names the member of the field, such as "throughput", that the model, or any, cannot be measured
// with.
absl::StatusOr<ThroughputSpec> ResolveThroughput(const ThroughputSpec& spec,
                                                 const ModelConfig& config,
                                                 const std::string& field);

// Tokens a second, of all sequences together.
struct ThroughputRound {
  double prefill = 0, decode = 0;
};
// Times one round: every sequence has its own prompt, the same in every call. Tokens are chosen on
// the host, which is counted. prompt_tokens >= 1, new_tokens >= 2. NUMERICAL_FAILURE where a logit
// is not finite.
absl::StatusOr<ThroughputRound> RunThroughputRound(Decoder& decoder, const ModelConfig& config,
                                                   int64_t batch_size, int64_t prompt_tokens,
                                                   int64_t new_tokens);
// Of at least one.
RateSummary SummarizeRates(std::vector<double> rates);

// One result a batch size, each behind a round that warms up. spec: resolved. Advances progress by
// ThroughputFlops and resets the backend's peak. What goes wrong with a batch size names it, above
// all HOST_OUT_OF_MEMORY and DEVICE_OUT_OF_MEMORY.
absl::StatusOr<std::vector<ThroughputResult>> MeasureThroughput(const Checkpoint& checkpoint,
                                                                const ThroughputSpec& spec,
                                                                Backend& backend,
                                                                Progress& progress);
double ThroughputFlops(const Checkpoint& checkpoint, const ThroughputSpec& spec);

}  // namespace svdllm
