// SHA-256, in lower-case hexadecimal.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

std::string Sha256(std::string_view bytes);
// The digest of a file's content.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

}  // namespace svdllm
