// The configuration in a GGUF file's metadata, in the words of Hugging Face's config.json.
#pragma once

#include <string>

#include "base/status.h"
#include "formats/gguf.h"

namespace svdllm {

// The tensor that holds LLaMA 3's scaling of rotary frequencies, worked out.
inline constexpr char kGgufRopeFactors[] = "rope_freqs.weight";

// Returns it for a file of architecture llama. UNIMPLEMENTED with UNSUPPORTED_ARCHITECTURE, naming
// the key, for what config.json could not say exactly; INVALID_ARGUMENT with MODEL_CORRUPT for
// missing keys.
absl::StatusOr<std::string> GgufConfigText(const GgufFile& file);

// Makes UNIMPLEMENTED with UNSUPPORTED_ARCHITECTURE and the file's path.
absl::Status UnsupportedGguf(const GgufFile& file, const std::string& what);

// Returns the number of heads of the queries, or of the keys and values.
absl::StatusOr<int64_t> GgufHeads(const GgufFile& file, bool of_keys);

}  // namespace svdllm
