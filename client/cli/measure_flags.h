// What is to be measured, and on what: the flags that compress and evaluate share, and the messages
// that they make.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/cli/flag_set.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

// The task of any text, and what is measured where no other is named.
inline constexpr char kPerplexity[] = "perplexity";

struct MeasureFlags {
  std::vector<std::string> tasks;     // "wikitext2"
  std::vector<std::string> datasets;  // "[TASK=]FILE", and so on: as they were given
  std::vector<std::string> answers;
  std::vector<std::string> fewshot;
  std::optional<int64_t> seq_len;
  std::optional<int64_t> limit;
  std::optional<v1::Packing> packing;
  std::optional<v1::WindowStart> window_start;
  std::optional<std::string> text_field;
  bool wants_throughput = false;
  v1::Throughput throughput;
};

// --tasks to --text_field, under title.
void AddTextAndTaskFlags(FlagSet& flags, const std::string& title, MeasureFlags* given);
// --throughput and its settings, under title.
void AddThroughputFlags(FlagSet& flags, const std::string& title, MeasureFlags* given);
// The names of all of them.
std::vector<std::string> MeasureFlagNames();
// --max_accuracy_drop and --max_perplexity_increase, in the group that is open.
void AddThresholdFlags(FlagSet& flags, v1::AcceptanceThreshold* threshold);

// A task on one file, with what --seq_len and the like say of it.
v1::EvaluationTask MakeTask(const MeasureFlags& given, const std::string& directory,
                            const std::string& name, const std::string& uri);
// The tasks that --tasks and --dataset ask for, in the order of the datasets; none where neither
// was given. Errors are UsageError.
absl::StatusOr<std::vector<v1::EvaluationTask>> MeasuredTasks(const MeasureFlags& given,
                                                              const std::string& directory);
// What --limit and the like say of tasks that a file has asked for.
void ChangeTasks(const MeasureFlags& given, std::vector<v1::EvaluationTask>* tasks);
// What --answers and --fewshot say of the tasks that are there already.
absl::Status AddTaskFiles(const MeasureFlags& given, const std::string& directory,
                          std::vector<v1::EvaluationTask>* tasks);
// Where nothing that is measured reads a file: flags that would say more of it are an error. With
// other_texts the command reads some that are not measured, which --text_field is for, too.
absl::Status CheckNoTextFlags(const MeasureFlags& given, bool other_texts);

}  // namespace svdllm::cli
