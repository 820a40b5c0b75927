#include "tasks/load_items.h"

#include "tasks/records.h"

namespace svdllm {
namespace {

absl::Status InvalidSource(const TaskRow& task, const std::string& what) {
  return InvalidField(std::string(task.name) + ": " + what);
}

absl::StatusOr<std::vector<TaskItem>> Read(const TaskRow& task, const std::string& path,
                                           const std::string& labels_path, int64_t limit) {
  ASSIGN_OR_RETURN(std::vector<Record> records, ReadRecords(path, limit));
  if (!labels_path.empty()) {
    RETURN_IF_ERROR(AddLabels(labels_path, task.labels_field, limit == 0, records));
  } else if (!task.labels_field.empty() &&
             !records[0].fields.contains(std::string(task.labels_field)) &&
             !records[0].fields.contains("gold")) {
    return InvalidRecord(records[0], "no field '" + std::string(task.labels_field) +
                                         "', and no file of labels is named");
  }
  std::vector<TaskItem> items;
  items.reserve(records.size());
  for (const Record& record : records) {
    ASSIGN_OR_RETURN(TaskItem item, task.parse(record));
    items.push_back(std::move(item));
  }
  return items;
}

// The question with its right answer.
std::string Solved(const TaskRow& task, const TaskItem& item) {
  if (task.kind == TaskKind::kGeneration) return item.contexts[0] + " " + item.references[0];
  return item.context(item.gold) + item.continuation(item.gold);
}

}  // namespace

absl::StatusOr<std::vector<TaskItem>> LoadItems(const TaskRow& task, const TaskSource& source) {
  if (source.limit < 0) return InvalidSource(task, "limit must not be negative");
  if (source.examples < 0) return InvalidSource(task, "num_fewshot must not be negative");
  if (!source.labels_path.empty() && task.labels_field.empty()) {
    return InvalidSource(task, "its answers stand in the dataset itself, not in a file of labels");
  }
  if (source.examples > 0 && !task.takes_examples) {
    return InvalidSource(task, "its prompt has examples of its own: num_fewshot must be 0");
  }
  if (source.examples > 0 && source.examples_path.empty()) {
    return InvalidSource(task, "num_fewshot needs a file of examples");
  }
  std::string examples;
  if (source.examples > 0) {
    ASSIGN_OR_RETURN(const std::vector<TaskItem> solved,
                     Read(task, source.examples_path, "", source.examples));
    if (static_cast<int64_t>(solved.size()) < source.examples) {
      return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid,
                       source.examples_path + ": " + std::to_string(solved.size()) +
                           " examples, fewer than num_fewshot, " + std::to_string(source.examples));
    }
    for (const TaskItem& item : solved) examples += Solved(task, item) + "\n\n";
  }
  ASSIGN_OR_RETURN(std::vector<TaskItem> items,
                   Read(task, source.path, source.labels_path, source.limit));
  for (TaskItem& item : items) {
    for (std::string& context : item.contexts) context = examples + context;
  }
  return items;
}

}  // namespace svdllm
