#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

constexpr TextTask kTextTasks[] = {
    {"perplexity"},
    {"wikitext2", TextRows::kWikiTextRows},
    {"ptb", TextRows::kStrippedRows},
    {"c4", TextRows::kWhole, 2000},
};

}  // namespace

std::span<const TextTask> TextTasks() { return kTextTasks; }

const TextTask* FindTextTask(std::string_view name) {
  for (const TextTask& task : kTextTasks) {
    if (task.name == name) return &task;
  }
  return nullptr;
}

}  // namespace svdllm
