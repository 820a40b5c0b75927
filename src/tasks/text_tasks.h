// The tasks that read a text and give a perplexity.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "job/spec.h"

namespace svdllm {

// "perplexity" takes any text. The others read a benchmark's published file and join it as the
// papers on compression do: documents with a blank line in between, tokenised as one text, with
// windows that do not overlap. WikiText-2's and PTB's documents are lines; C4's are the first 2,000
// objects of a file.
struct TextTask {
  std::string_view name;
  TextRows rows = TextRows::kWhole;
  int64_t max_documents = 0;
};

std::span<const TextTask> TextTasks();
// Returns nullptr for a task that reads no text.
const TextTask* FindTextTask(std::string_view name);

}  // namespace svdllm
