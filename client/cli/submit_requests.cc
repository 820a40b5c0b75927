#include "client/cli/submit_requests.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/enum_names.h"

namespace svdllm::cli {
namespace {

// Of compress.
constexpr const char* kTaskFlags[] = {"task", "task_limit", "answers", "fewshot"};

// The tasks that read a text.
bool ReadsText(const std::string& task) {
  return task == "perplexity" || task == "wikitext2" || task == "ptb" || task == "c4";
}

// Flags of evaluate that say something of a text or a task, where there is none.
absl::Status CheckNoTextFlags(const Flags& flags) {
  std::vector<std::string> given;
  for (const char* flag : {"limit", "seq_len", "packing", "text_field"}) {
    if (flags.Has(flag)) given.push_back(absl::StrCat("--", flag));
  }
  if (given.empty()) return absl::OkStatus();
  return UsageError(absl::StrCat(absl::StrJoin(given, ", "),
                                 ": for texts and tasks, and --throughput alone reads none; "
                                 "--dataset=FILE adds one"));
}

void FillText(const CommandContext& context, const std::string& uri, const char* packing,
              v1::TextSource* text) {
  text->set_uri(Located(context, uri));
  if (context.flags.Has("text_field")) text->set_text_field(context.flags.Text("text_field"));
  if (context.flags.Has(packing)) {
    text->set_packing(FromShortName<v1::Packing>(context.flags.Text(packing)));
  }
}

// What both requests have. The server fills in what is not given: its defaults, not ours, count.
template <typename Request>
absl::Status FillJob(const CommandContext& context, Request* request) {
  const Flags& flags = context.flags;
  if (!flags.Has("model")) return UsageError("--model is missing");
  if (flags.On("watch") && flags.On("detach"))
    return UsageError("--watch and --detach exclude each other");
  request->set_model(Located(context, flags.Text("model")));
  request->set_request_id(flags.Has("request_id") ? flags.Text("request_id") : NewRequestId());
  request->set_validate_only(flags.On("validate_only"));
  for (const auto& [key, value] : flags.Labels("label")) (*request->mutable_labels())[key] = value;
  if (flags.Has("timeout")) {
    const double seconds = flags.Seconds("timeout");
    request->mutable_timeout()->set_seconds(static_cast<int64_t>(seconds));
    request->mutable_timeout()->set_nanos(static_cast<int32_t>(std::fmod(seconds, 1.0) * 1e9));
  }
  return absl::OkStatus();
}

// One text as such; several sources, or one with more to say, as sources.
absl::Status FillSources(const CommandContext& context, v1::Calibration* calibration) {
  const std::vector<std::string> given = context.flags.Texts("calibration");
  for (const std::string& written : given) {
    const auto [weight, uri] = SplitWeighted(written);
    if (uri.empty()) {
      return UsageError(absl::StrCat("--calibration=", written, " names no file"));
    }
    const bool samples = uri == kModelSamples;
    if (given.size() == 1 && !samples) {
      FillText(context, uri, "packing", calibration->mutable_text());
      break;
    }
    v1::CalibrationSource* source = calibration->add_sources();
    if (samples) {
      source->set_model_samples(true);
    } else {
      FillText(context, uri, "packing", source->mutable_text());
    }
    if (uri.size() < written.size()) source->set_weight(weight);
  }
  return absl::OkStatus();
}

// What --answers and --fewshot say of the tasks that are there already.
template <typename Tasks>
absl::Status FillTaskFiles(const CommandContext& context, Tasks* tasks) {
  const auto fill = [&](const char* flag, auto set) -> absl::Status {
    for (const std::string& given : context.flags.Texts(flag)) {
      const auto [name, rest] = SplitDataset(given);
      const auto task = std::find_if(tasks->begin(), tasks->end(),
                                     [&name = name](const auto& t) { return t.name() == name; });
      if (name.empty() || task == tasks->end()) {
        return UsageError(absl::StrCat("--", flag, "=", given, " does not begin with a task that ",
                                       "is asked for"));
      }
      RETURN_IF_ERROR(set(*task, rest, absl::StrCat("--", flag, "=", given)));
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(
      fill("answers", [&](v1::EvaluationTask& task, const std::string& uri, const auto&) {
        task.set_labels_uri(Located(context, uri));
        return absl::OkStatus();
      }));
  return fill("fewshot",
              [&](v1::EvaluationTask& task, const std::string& text,
                  const std::string& given) -> absl::Status {
                const size_t colon = text.find(':');
                int32_t count = 0;
                if (colon == std::string::npos ||
                    !absl::SimpleAtoi(text.substr(0, colon), &count) || count < 1) {
                  return UsageError(absl::StrCat(given, " is not of the form TASK=N:FILE"));
                }
                task.set_num_fewshot(count);
                task.set_fewshot_uri(Located(context, text.substr(colon + 1)));
                return absl::OkStatus();
              });
}

absl::Status FillTasks(const CommandContext& context, v1::ReportEvaluation* evaluation) {
  for (const std::string& given : context.flags.Texts("task")) {
    const auto [name, uri] = SplitDataset(given);
    if (name.empty() || uri.empty()) {
      return UsageError(absl::StrCat("--task=", given, " is not of the form TASK=FILE"));
    }
    v1::EvaluationTask* task = evaluation->add_tasks();
    task->set_name(name);
    task->mutable_dataset()->set_uri(Located(context, uri));
    task->set_limit(context.flags.Integer("task_limit"));
  }
  return FillTaskFiles(context, evaluation->mutable_tasks());
}

// Whether the request asks for speed.
absl::StatusOr<bool> WantsThroughput(const CommandContext& context) {
  if (context.flags.Has("throughput")) return true;
  for (const char* flag : {"prompt_tokens", "new_tokens", "repetitions"}) {
    if (context.flags.Has(flag)) {
      return UsageError(absl::StrCat("--", flag, " needs --throughput"));
    }
  }
  return false;
}

void FillThroughput(const CommandContext& context, v1::Throughput* throughput) {
  const Flags& flags = context.flags;
  for (const int32_t size : flags.Sizes("throughput")) throughput->add_batch_sizes(size);
  if (flags.Has("prompt_tokens")) throughput->set_prompt_tokens(flags.Integer("prompt_tokens"));
  if (flags.Has("new_tokens")) throughput->set_new_tokens(flags.Integer("new_tokens"));
  if (flags.Has("repetitions")) {
    throughput->set_repetitions(
        static_cast<int32_t>(std::min<int64_t>(flags.Integer("repetitions"), INT32_MAX)));
  }
}

absl::Status FillEvaluation(const CommandContext& context, v1::CompressModelRequest* request) {
  const Flags& flags = context.flags;
  const auto given = [&flags](const char* flag) { return flags.Has(flag); };
  const bool any_task = std::any_of(std::begin(kTaskFlags), std::end(kTaskFlags), given);
  const bool any = given("evaluation") || given("evaluation_seq_len") ||
                   given("evaluation_limit") || given("evaluation_packing");
  ASSIGN_OR_RETURN(const bool throughput, WantsThroughput(context));
  if (flags.On("no_evaluation")) {
    if (any || any_task || throughput) {
      return UsageError(
          "--no_evaluation excludes the other --evaluation flags, --task and --throughput");
    }
    request->mutable_evaluation()->set_disabled(true);
    return absl::OkStatus();
  }
  if (any_task) RETURN_IF_ERROR(FillTasks(context, request->mutable_evaluation()));
  if (throughput) FillThroughput(context, request->mutable_evaluation()->mutable_throughput());
  if (!any) return absl::OkStatus();
  for (const char* flag : {"evaluation_seq_len", "evaluation_limit", "evaluation_packing"}) {
    if (flags.Has(flag) && !flags.Has("evaluation")) {
      return UsageError(absl::StrCat("--", flag, " needs --evaluation: the windows that are held ",
                                     "out are as the calibration's"));
    }
  }
  for (const std::string& given : flags.Texts("evaluation")) {
    const auto [name, uri] = SplitDataset(given);
    if (uri.empty()) return UsageError(absl::StrCat("--evaluation=", given, " names no file"));
    v1::EvaluationTask* task = request->mutable_evaluation()->add_tasks();
    task->set_name("perplexity");
    task->set_label(name.empty() ? std::filesystem::path(uri).stem().string() : name);
    FillText(context, uri, "evaluation_packing", task->mutable_dataset());
    task->set_seq_len(flags.Integer("evaluation_seq_len"));
    task->set_limit(flags.Integer("evaluation_limit"));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsLocalPath(const std::string& text) { return text.find("://") == std::string::npos; }

std::string Located(const CommandContext& context, const std::string& text) {
  if (!IsLocalPath(text)) return text;
  std::filesystem::path path =
      (std::filesystem::path(context.environment.directory) / text).lexically_normal();
  if (!path.has_filename() && path.has_relative_path())
    path = path.parent_path();  // a slash at the end
  return path.string();
}

std::pair<std::string, std::string> SplitDataset(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || text.find_first_of("/:") < equals)
    return {"", text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::pair<double, std::string> SplitWeighted(const std::string& text) {
  const size_t colon = text.find(':');
  double weight = 1;
  if (colon == std::string::npos || !absl::SimpleAtod(text.substr(0, colon), &weight)) {
    return {1, text};
  }
  return {weight, text.substr(colon + 1)};
}

absl::StatusOr<v1::CompressModelRequest> CompressRequest(const CommandContext& context) {
  const Flags& flags = context.flags;
  v1::CompressModelRequest request;
  RETURN_IF_ERROR(FillJob(context, &request));
  if (!flags.Has("keep_ratio")) return UsageError("--keep_ratio is missing");
  if (!flags.Has("calibration")) return UsageError("--calibration is missing");
  if (flags.Has("method")) request.set_method(FromShortName<v1::Method>(flags.Text("method")));
  if (flags.Has("encoding")) {
    request.set_encoding(FromShortName<v1::Encoding>(flags.Text("encoding")));
  }
  for (const double ratio : flags.Reals("keep_ratio")) request.add_keep_ratios(ratio);
  if (flags.Has("allocation"))
    request.set_allocation(FromShortName<v1::Allocation>(flags.Text("allocation")));
  v1::Calibration* calibration = request.mutable_calibration();
  RETURN_IF_ERROR(FillSources(context, calibration));
  if (flags.Has("calibration_samples"))
    calibration->set_samples(flags.Integer("calibration_samples"));
  if (flags.Has("calibration_seq_len"))
    calibration->set_seq_len(flags.Integer("calibration_seq_len"));
  if (flags.Has("seed")) calibration->set_seed(static_cast<uint64_t>(flags.Integer("seed")));
  calibration->set_first_document(flags.Integer("first_document"));
  request.set_output_uri(flags.Text("output"));
  if (flags.Has("output_format")) {
    request.set_output_format(FromShortName<v1::OutputFormat>(flags.Text("output_format")));
  }
  if (flags.Has("asvd_alpha")) request.set_asvd_alpha(flags.Real("asvd_alpha"));
  if (flags.Has("anchor_blend")) request.set_anchor_blend(flags.Real("anchor_blend"));
  if (flags.Has("anchor_ridge")) request.set_anchor_ridge(flags.Real("anchor_ridge"));
  if (flags.Has("min_keep_ratio")) request.set_min_keep_ratio(flags.Real("min_keep_ratio"));
  if (flags.Has("rank_multiple")) {
    request.set_rank_multiple(
        static_cast<int32_t>(std::min<int64_t>(flags.Integer("rank_multiple"), INT32_MAX)));
  }
  RETURN_IF_ERROR(FillEvaluation(context, &request));
  return request;
}

absl::StatusOr<v1::EvaluateRequest> EvaluateRequestOf(const CommandContext& context) {
  const Flags& flags = context.flags;
  v1::EvaluateRequest request;
  RETURN_IF_ERROR(FillJob(context, &request));
  ASSIGN_OR_RETURN(const bool throughput, WantsThroughput(context));
  if (throughput) FillThroughput(context, request.mutable_throughput());
  // Speed needs no text.
  const bool only_throughput = throughput && !flags.Has("tasks") && !flags.Has("dataset");
  if (only_throughput) RETURN_IF_ERROR(CheckNoTextFlags(flags));
  const std::vector<std::string> tasks =
      absl::StrSplit(only_throughput ? "" : flags.Text("tasks"), ',', absl::SkipEmpty());
  if (tasks.empty() && !only_throughput) return UsageError("--tasks is empty");
  const auto wanted = [&](const std::string& name) {
    return std::find(tasks.begin(), tasks.end(), name) != tasks.end();
  };
  const std::vector<std::string> datasets = flags.Texts("dataset");
  const int64_t unnamed =
      std::count_if(datasets.begin(), datasets.end(),
                    [](const std::string& text) { return SplitDataset(text).first.empty(); });
  const auto add = [&](const std::string& name) {
    v1::EvaluationTask* task = request.add_tasks();
    task->set_name(name);
    if (flags.Has("seq_len") && ReadsText(name)) task->set_seq_len(flags.Integer("seq_len"));
    task->set_limit(flags.Integer("limit"));
    return task;
  };
  std::vector<std::string> served;  // tasks that have a dataset
  for (const std::string& dataset : datasets) {
    auto [name, uri] = SplitDataset(dataset);
    if (uri.empty()) return UsageError(absl::StrCat("--dataset=", dataset, " names no file"));
    const bool is_task = wanted(name);
    if (!is_task && tasks.size() > 1 && !wanted("perplexity")) {
      return UsageError(absl::StrCat(
          "--dataset=", dataset, " does not say for which task: --dataset=", tasks[0], "=FILE"));
    }
    served.push_back(is_task ? name : tasks.size() == 1 ? tasks[0] : "perplexity");
    v1::EvaluationTask* task = add(served.back());
    if (ReadsText(task->name())) {
      FillText(context, uri, "packing", task->mutable_dataset());
    } else {
      task->mutable_dataset()->set_uri(Located(context, uri));
    }
    if (!is_task && !name.empty()) task->set_label(name);
    // Several texts without names would all be called "perplexity".
    if (name.empty() && unnamed > 1) task->set_label(std::filesystem::path(uri).stem().string());
  }
  for (const std::string& name : tasks) {
    if (std::find(served.begin(), served.end(), name) != served.end()) continue;
    if (name == "perplexity")
      return UsageError("--dataset is missing: the text to measure perplexity on");
    return UsageError(absl::StrCat("--dataset=", name, "=FILE is missing"));
  }
  RETURN_IF_ERROR(FillTaskFiles(context, request.mutable_tasks()));
  if (flags.Has("baseline")) request.set_baseline(Located(context, flags.Text("baseline")));
  if (flags.Has("max_accuracy_drop")) {
    request.mutable_threshold()->set_max_accuracy_drop(flags.Real("max_accuracy_drop"));
  }
  if (flags.Has("max_perplexity_increase")) {
    request.mutable_threshold()->set_max_perplexity_increase(flags.Real("max_perplexity_increase"));
  }
  request.set_output_uri(flags.Text("output"));
  return request;
}

}  // namespace svdllm::cli
