// Unicode normalization forms, equal to the reference tokenizers' normalizers.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// text is valid UTF-8. The time is linear in its length, up to the sorting of runs of combining
// marks.
std::string Normalize(NormalForm form, std::string_view text);

}  // namespace svdllm
