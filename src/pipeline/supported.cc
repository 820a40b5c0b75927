#include "pipeline/supported.h"

#include "checkpoint/architecture.h"
#include "tasks/task_table.h"
#include "tasks/text_tasks.h"

namespace svdllm {

std::vector<std::string> SupportedFamilies() { return KnownFamilies(); }

std::vector<std::string> SupportedTasks() {
  std::vector<std::string> names;
  for (const TextTask& task : TextTasks()) names.emplace_back(task.name);
  for (const TaskRow& task : Tasks()) names.emplace_back(task.name);
  return names;
}

}  // namespace svdllm
