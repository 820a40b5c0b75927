// The texts of a compression's evaluation, which were fields of their own before a compression took
// the tasks of an evaluation. Earlier clients send them and earlier servers have stored them;
// behind MoveTexts there are tasks only.
#pragma once

#include <string>
#include <vector>

#include "svdllm/v1/compression.pb.h"

namespace svdllm {

// The task that takes any text; the figure of ReportEvaluation.text has this name, too.
inline constexpr char kTextName[] = "perplexity";

// Where a request says what of a task: paths of fields, for errors in the words of the caller.
struct TaskPaths {
  std::string name, label, dataset, seq_len, window_start, limit, labels_uri, fewshot_uri,
      num_fewshot;
};

// Of the task at this path, "tasks[2]": "tasks[2].label" and so on.
TaskPaths PathsOfTask(const std::string& task);

// Of the tasks of a list, "tasks" or "evaluation.tasks".
std::vector<TaskPaths> PathsOfTasks(const std::string& list, int size);

// Turns text (with seq_len and limit) and texts into tasks of the name "perplexity", in this order
// in front of the tasks that are there. Returns where each of the tasks was written: of two texts
// and a task "evaluation.texts[0].…", "evaluation.texts[1].…", "evaluation.tasks[0].…".
std::vector<TaskPaths> MoveTexts(v1::ReportEvaluation& evaluation);

}  // namespace svdllm
