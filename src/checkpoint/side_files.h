// The small files beside a model's weights that belong to it: tokenizer, licence, chat templates,
// settings for generation. An artifact carries them over byte for byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct SideFile {
  std::string name;  // below the directory: "additional_chat_templates/tool_use.jinja"
  std::string path;  // where its bytes are, links followed
  int64_t bytes = 0;
};

// Whether a file of this name, in the directory itself, may be one. It goes by a rule and not by a
// list, so that what a model's author adds tomorrow is not lost: text and tokenizers (.json, .txt,
// .md, .jinja, .model), names without an extension, tokenizers and licences of any. Never code,
// weights and their indexes, hidden files, the card (README.md), config.json, nor the reports and
// manifests that we write ourselves.
bool IsSideFileName(std::string_view name);

// Those of a directory and of its additional_chat_templates, sorted by name. Left out are large
// files that are no tokenizer's, and of the others the largest, where all together pass a limit.
// MODEL_CORRUPT naming the file where one is a pipe, a device or a socket, or a link that leads
// neither to a file in the directory nor to one of its hub cache's blobs.
absl::StatusOr<std::vector<SideFile>> SideFilesOf(const std::string& dir);

}  // namespace svdllm
