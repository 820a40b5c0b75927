// Texts, compressed.
#pragma once

#include <string>
#include <string_view>

namespace svdllm::testing {

std::string Gzip(std::string_view text);
std::string Zstd(std::string_view text);

}  // namespace svdllm::testing
