#include "server/report_texts.h"

#include <filesystem>
#include <utility>

namespace svdllm {
namespace {

using Tasks = google::protobuf::RepeatedPtrField<v1::EvaluationTask>;

void AddText(const std::string& label, const v1::TextSource& text, int64_t seq_len, int64_t limit,
             Tasks& tasks) {
  v1::EvaluationTask& task = *tasks.Add();
  task.set_name(kTextName);
  task.set_label(label);
  *task.mutable_dataset() = text;
  task.set_seq_len(seq_len);
  task.set_limit(limit);
}

}  // namespace

TaskPaths PathsOfTask(const std::string& task) {
  return {task + ".name",       task + ".label",        task + ".dataset",
          task + ".seq_len",    task + ".window_start", task + ".limit",
          task + ".labels_uri", task + ".fewshot_uri",  task + ".num_fewshot"};
}

std::vector<TaskPaths> PathsOfTasks(const std::string& list, int size) {
  std::vector<TaskPaths> paths;
  for (int i = 0; i < size; ++i) {
    paths.push_back(PathsOfTask(list + "[" + std::to_string(i) + "]"));
  }
  return paths;
}

std::vector<TaskPaths> MoveTexts(v1::ReportEvaluation& evaluation) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  Tasks tasks;
  std::vector<TaskPaths> paths;
  if (evaluation.has_text()) {
    AddText(kTextName, evaluation.text(), evaluation.seq_len(), evaluation.limit(), tasks);
    TaskPaths& path = paths.emplace_back(PathsOfTask("evaluation"));
    path.label = path.dataset = "evaluation.text";
  }
  for (int i = 0; i < evaluation.texts_size(); ++i) {
    const v1::EvaluationText& text = evaluation.texts(i);
    const std::string label = text.name().empty()
                                  ? std::filesystem::path(text.text().uri()).stem().string()
                                  : text.name();
    AddText(label, text.text(), text.seq_len(), text.limit(), tasks);
    const std::string where = "evaluation.texts[" + std::to_string(i) + "]";
    TaskPaths& path = paths.emplace_back(PathsOfTask(where));
    path.label = where + ".name";
    path.dataset = where + ".text";
  }
  evaluation.clear_text();
  evaluation.clear_seq_len();
  evaluation.clear_limit();
  evaluation.clear_texts();
#pragma GCC diagnostic pop
  for (TaskPaths& path : PathsOfTasks("evaluation.tasks", evaluation.tasks_size())) {
    paths.push_back(std::move(path));
  }
  for (v1::EvaluationTask& task : *evaluation.mutable_tasks()) *tasks.Add() = std::move(task);
  evaluation.mutable_tasks()->Swap(&tasks);
  return paths;
}

}  // namespace svdllm
