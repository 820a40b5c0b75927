// Text that the model itself writes, to calibrate on where there is no other text.
#pragma once

#include "checkpoint/checkpoint.h"
#include "job/progress.h"
#include "job/spec.h"
#include "linalg/backend.h"
#include "model/sequences.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

// Returns count sequences of exactly seq_len tokens, sampled at temperature 1. They begin behind
// the token that the tokenizer puts in front of a text; else the one that config.json calls the
// beginning or the end of a text; else a token that is drawn. The same arguments give the same
// sequences. The whole model is in memory meanwhile. Advances progress at every token.
absl::StatusOr<Sequences> SampleModel(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                      Backend& backend, int64_t count, int64_t seq_len,
                                      uint64_t seed, Progress& progress);

// SamplingFlops is the work of all the samples that a resolved compression asks for, in the unit of
// model/cost.h. SamplingCacheBytes is the size of the cache of keys and values beside the model.
// Both are 0 where it asks for none.
double SamplingFlops(const CompressSpec& spec, const Checkpoint& checkpoint);
int64_t SamplingCacheBytes(const CompressSpec& spec, const ModelConfig& config);

}  // namespace svdllm
