// What WriteTinyCheckpoint writes, as a GGUF file.
#pragma once

#include <string>

#include "checkpoint/config.h"
#include "tests/support/gguf_bytes.h"

namespace svdllm::testing {

// The LLaMA of a directory that WriteTinyCheckpoint made: configuration, tokenizer and tensors, not
// quantised. Rope scaling is left out.
GgufBytes GgufOf(const std::string& hf_dir);

// Its configuration alone.
void AddGgufMetadata(const ModelConfig& config, GgufBytes* out);

}  // namespace svdllm::testing
