#include "client/cli/measure_flags.h"

#include <algorithm>
#include <functional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/inputs.h"

namespace svdllm::cli {
namespace {

// The tasks that read a text. The server has the list (ServerInfo.text_tasks) and refuses windows
// of another task; that of a command line is no reason to ask it.
bool ReadsText(const std::string& task) {
  return task == kPerplexity || task == "wikitext2" || task == "ptb" || task == "c4";
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Every task has its dataset.
absl::Status CheckServed(const std::vector<std::string>& names,
                         const std::vector<v1::EvaluationTask>& tasks) {
  for (const std::string& name : names) {
    const bool served = std::any_of(tasks.begin(), tasks.end(),
                                    [&](const auto& task) { return task.name() == name; });
    if (served) continue;
    if (name == kPerplexity)
      return UsageError("--dataset is missing: the text to measure perplexity on");
    return UsageError(absl::StrCat("--dataset=", name, "=FILE is missing"));
  }
  return absl::OkStatus();
}

// Calls add for each of a flag's values, "TASK=REST", with its task and rest.
absl::Status ForEachTask(
    const std::string& flag, const std::vector<std::string>& values,
    std::vector<v1::EvaluationTask>* tasks,
    const std::function<absl::Status(v1::EvaluationTask&, const std::string& rest,
                                     const std::string& written)>& add) {
  for (const std::string& value : values) {
    const auto [name, rest] = SplitNamed(value);
    const std::string written = absl::StrCat(flag, "=", value);
    const auto task = std::find_if(tasks->begin(), tasks->end(),
                                   [&name = name](const auto& t) { return t.name() == name; });
    if (name.empty() || task == tasks->end()) {
      return UsageError(absl::StrCat(written, " does not begin with a task that is asked for"));
    }
    RETURN_IF_ERROR(add(*task, rest, written));
  }
  return absl::OkStatus();
}

}  // namespace

void AddTextAndTaskFlags(FlagSet& flags, const std::string& title, MeasureFlags* given) {
  flags.Group(title);
  flags.AddRepeated(
      {"tasks", "TASK[,TASK...]",
       "What to measure: perplexity on a text, or questions with known answers. docs/tasks.md "
       "explains the tasks, svdllm server-info lists those that the server has. Default: "
       "perplexity, where there is a --dataset."},
      WordList(&given->tasks));
  flags.AddRepeated(
      {"dataset", "[TASK=]FILE|URI",
       "What a task reads: a text (plain, .jsonl or .json) or the dataset's file. Read by the "
       "server, like --model. A name that is no task of --tasks becomes the label of a "
       "perplexity, so that one job measures several texts: --dataset=wiki=a.txt "
       "--dataset=news=b.txt. Default: none."},
      TextValue(&given->datasets));
  flags.AddRepeated(
      {"answers", "TASK=FILE|URI",
       "The answers of a task whose dataset has them in a file of their own. Default: none."},
      TextValue(&given->answers));
  flags.AddRepeated(
      {"fewshot", "TASK=N:FILE|URI",
       "Puts N solved examples in front of every question: the first of FILE, which is "
       "like the task's own. Default: none."},
      TextValue(&given->fewshot));
  flags.Add({"seq_len", "N",
             "Tokens per window of a --dataset's text. Default: 2048, or as many as the model has "
             "positions where those are fewer."},
            IntegerValue(0, [given](int64_t tokens) { given->seq_len = tokens; }));
  flags.Add({"limit", "N",
             "Windows, documents or questions of each task at most. Default: 0, which is all."},
            IntegerValue(0, [given](int64_t limit) { given->limit = limit; }));
  flags.AddEnum<v1::Packing>(
      "dataset_packing",
      "How a --dataset's text becomes windows: its documents joined, tokenised as one text and "
      "then cut, or each document one window, cut at --seq_len. Default: concatenated.",
      [given](v1::Packing packing) { given->packing = packing; });
  flags.AddEnum<v1::WindowStart>("window_start",
                                 "With a --dataset's text of concatenated documents: whether the "
                                 "tokens that the tokenizer puts "
                                 "in front of a text stand in front of all of it, or in front of "
                                 "every window. Default: as the "
                                 "model's family needs it, window for Gemma and text for others.",
                                 [given](v1::WindowStart start) { given->window_start = start; });
  flags.Add({"text_field", "NAME",
             "The member that holds the text where the documents of a text, any of the command's, "
             "are JSON objects. Default: text."},
            [given](const std::string& name) {
              given->text_field = name;
              return absl::OkStatus();
            });
}

void AddThroughputFlags(FlagSet& flags, const std::string& title, MeasureFlags* given) {
  v1::Throughput* const throughput = &given->throughput;
  flags.Group(title);
  const ValueReader sizes = SizeList([=](int32_t size) { throughput->add_batch_sizes(size); });
  flags.AddOptional(
      {"throughput", "N[,N...]",
       "Measures how many tokens a second the model reads (prefill) and writes (decode), with N "
       "sequences together, and the peak of memory; without N: with 1 and with 8. Default: not "
       "measured."},
      [=](const std::string& text) {
        given->wants_throughput = true;
        return sizes(text);
      });
  flags.Add({"prompt_tokens", "N",
             "With --throughput: tokens of each prompt. Default: 512, or what positions the model "
             "has beside --new_tokens where those are fewer."},
            IntegerValue(1, [=](int64_t tokens) { throughput->set_prompt_tokens(tokens); }));
  flags.Add(
      {"new_tokens", "N",
       "With --throughput: tokens that each sequence is continued by, at least 2. Default: 32."},
      IntegerValue(1, [=](int64_t tokens) { throughput->set_new_tokens(tokens); }));
  flags.Add(
      {"repetitions", "N",
       "With --throughput: rounds that are timed, behind one that warms up; the median counts. "
       "Default: 3."},
      IntegerValue(
          1, [=](int64_t n) { throughput->set_repetitions(static_cast<int32_t>(n)); }, INT32_MAX));
  for (const char* name : {"prompt_tokens", "new_tokens", "repetitions"}) {
    flags.Need(name, "throughput");
  }
}

void AddThresholdFlags(FlagSet& flags, v1::AcceptanceThreshold* threshold) {
  flags.Add({"max_accuracy_drop", "D",
             "Asks for a verdict, against the baseline or, of a compression, against the model "
             "before: each task's accuracy may fall by this much; 0.02 lets 0.40 become 0.38. "
             "Where it fell by more, the exit status is 5. Default: no verdict."},
            RealValue([=](double drop) { threshold->set_max_accuracy_drop(drop); }));
  flags.Add({"max_perplexity_increase", "R",
             "Likewise: each perplexity may rise by this share; 0.1 lets 10 become 11. Default: no "
             "verdict."},
            RealValue([=](double share) { threshold->set_max_perplexity_increase(share); }));
}

std::vector<std::string> MeasureFlagNames() {
  return {"tasks",      "dataset",       "answers",         "fewshot",
          "seq_len",    "limit",         "dataset_packing", "window_start",
          "throughput", "prompt_tokens", "new_tokens",      "repetitions"};
}

void ChangeTasks(const MeasureFlags& given, std::vector<v1::EvaluationTask>* tasks) {
  for (v1::EvaluationTask& task : *tasks) {
    if (given.limit) task.set_limit(*given.limit);
    if (!ReadsText(task.name())) continue;
    if (given.seq_len) task.set_seq_len(*given.seq_len);
    if (given.text_field) task.mutable_dataset()->set_text_field(*given.text_field);
    if (given.packing) task.mutable_dataset()->set_packing(*given.packing);
    if (given.window_start) task.set_window_start(*given.window_start);
  }
}

v1::EvaluationTask MakeTask(const MeasureFlags& given, const std::string& directory,
                            const std::string& name, const std::string& uri) {
  std::vector<v1::EvaluationTask> task(1);
  task[0].set_name(name);
  task[0].mutable_dataset()->set_uri(Located(directory, uri));
  ChangeTasks(given, &task);
  return task[0];
}

absl::StatusOr<std::vector<v1::EvaluationTask>> MeasuredTasks(const MeasureFlags& given,
                                                              const std::string& directory) {
  std::vector<v1::EvaluationTask> tasks;
  if (given.tasks.empty() && given.datasets.empty()) return tasks;
  const std::vector<std::string> names =
      given.tasks.empty() ? std::vector<std::string>{kPerplexity} : given.tasks;
  const int64_t unnamed =
      std::count_if(given.datasets.begin(), given.datasets.end(),
                    [](const std::string& text) { return SplitNamed(text).first.empty(); });
  for (const std::string& dataset : given.datasets) {
    const auto [name, uri] = SplitNamed(dataset);
    if (uri.empty()) return UsageError(absl::StrCat("--dataset=", dataset, " names no file"));
    const bool is_task = Contains(names, name);
    if (!is_task && names.size() > 1 && !Contains(names, kPerplexity)) {
      return UsageError(absl::StrCat(
          "--dataset=", dataset, " does not say for which task: --dataset=", names[0], "=FILE"));
    }
    const std::string task = is_task ? name : names.size() == 1 ? names[0] : kPerplexity;
    tasks.push_back(MakeTask(given, directory, task, uri));
    if (!is_task && !name.empty()) tasks.back().set_label(name);
    // Several texts without names would all be called "perplexity".
    if (name.empty() && unnamed > 1) tasks.back().set_label(StemOf(uri));
  }
  RETURN_IF_ERROR(CheckServed(names, tasks));
  return tasks;
}

absl::Status AddTaskFiles(const MeasureFlags& given, const std::string& directory,
                          std::vector<v1::EvaluationTask>* tasks) {
  RETURN_IF_ERROR(
      ForEachTask("--answers", given.answers, tasks,
                  [&](v1::EvaluationTask& task, const std::string& uri, const std::string&) {
                    task.set_labels_uri(Located(directory, uri));
                    return absl::OkStatus();
                  }));
  return ForEachTask(
      "--fewshot", given.fewshot, tasks,
      [&](v1::EvaluationTask& task, const std::string& text, const std::string& written) {
        const size_t colon = text.find(':');
        int32_t count = 0;
        if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(0, colon), &count) ||
            count < 1) {
          return UsageError(absl::StrCat(written, " is not of the form TASK=N:FILE"));
        }
        task.set_num_fewshot(count);
        task.set_fewshot_uri(Located(directory, text.substr(colon + 1)));
        return absl::OkStatus();
      });
}

absl::Status CheckNoTextFlags(const MeasureFlags& given, bool other_texts) {
  std::vector<std::string> names;
  if (given.limit) names.push_back("--limit");
  if (given.seq_len) names.push_back("--seq_len");
  if (given.packing) names.push_back("--dataset_packing");
  if (given.window_start) names.push_back("--window_start");
  if (given.text_field && !other_texts) names.push_back("--text_field");
  if (names.empty()) return absl::OkStatus();
  return UsageError(absl::StrCat(absl::StrJoin(names, ", "),
                                 ": for texts and tasks to measure, and there is none; "
                                 "--dataset=FILE adds one"));
}

}  // namespace svdllm::cli
