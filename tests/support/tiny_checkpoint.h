// A model of a few thousand random parameters as a Hugging Face directory.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "linalg/dtype.h"

namespace svdllm::testing {

struct TinyCheckpointOptions {
  std::string family = "llama";
  std::string family_json = "{}";  // what it has beside these options: keys of config.json
  int64_t vocab_size = 260;        // at least 258 for the tokenizer
  int64_t hidden_size = 16;
  int64_t intermediate_size = 40;
  int64_t num_layers = 2;
  int64_t num_heads = 4;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 4;
  int64_t max_position_embeddings = 128;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied = false;
  DType dtype = DType::kF32;
  int shards = 1;     // more than one: with an index
  uint64_t seed = 1;  // the same options give the same bytes
  // Module path → rank: these are stored factored, and the directory becomes one of our artifacts
  // (model_type lowrank_llama or the like, with a manifest).
  std::map<std::string, int64_t> ranks;
  bool pivoted = false;  // those, with the rows in a random order
  // Merged into config.json over everything else, but not heeded by the weights:
  // {"rope_scaling": ...}.
  std::string config_json = "{}";
  // Files of a byte-level tokenizer without merges: ids 0..255 are the bytes in GPT-2's order of
  // characters, 256 is <s> (put in front), 257 is </s>.
  bool tokenizer = true;
};

// Every family, some in variants, by name: each with what distinguishes it in use at this size, and
// windows shorter than 20 tokens.
std::map<std::string, TinyCheckpointOptions> TinyFamilies();

// Writes into dir, which is created where absent. Aborts where it cannot.
void WriteTinyCheckpoint(const std::string& dir, const TinyCheckpointOptions& options = {});

}  // namespace svdllm::testing
