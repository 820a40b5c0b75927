// Requests as they are sent, to requests as they are run.
#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "absl/strings/str_join.h"
#include "pipeline/supported.h"
#include "server/enum_rows.h"
#include "server/report_texts.h"
#include "server/request_checker.h"
#include "server/spec_proto.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

constexpr int64_t kMaxSamples = 1 << 20;
constexpr int kMaxRankMultiple = 1024;
constexpr char kNoWindows[] =
    "belongs to texts of PACKING_CONCATENATED; documents begin with the tokenizer's tokens anyway";

// How a request compresses. nullptr: with something that this program does not know.
struct How {
  const MethodRow* method;
  const AllocationRow* allocation;
};

void ResolveKeepRatios(Checker& check, v1::CompressModelRequest& request) {
  auto* ratios = request.mutable_keep_ratios();
  check.Require(!ratios->empty(), "keep_ratios", "at least one is required");
  if (!check.Bounded("keep_ratios", ratios->size(), kMaxKeepRatios)) return;
  bool all_valid = true;
  for (int i = 0; i < ratios->size(); ++i) {
    const bool valid = ratios->Get(i) > 0 && ratios->Get(i) <= 1;  // false for NaN
    all_valid &= valid;
    check.Require(valid, "keep_ratios[" + std::to_string(i) + "]", "must be above 0 and at most 1");
  }
  if (!all_valid) return;
  std::sort(ratios->begin(), ratios->end(), std::greater<>());
  check.Require(std::adjacent_find(ratios->begin(), ratios->end()) == ratios->end(), "keep_ratios",
                "no two may be equal");
}

// What a caller gets who does not say how is the default method, and of a method what its row says.
How ResolveHow(v1::CompressModelRequest& request) {
  How how{};
  v1::Method method = request.method();
  how.method = ResolveRow(Methods(), DefaultMethod().name, method);
  request.set_method(method);
  const MethodRow& row = how.method == nullptr ? DefaultMethod() : *how.method;
  v1::Encoding encoding = request.encoding();
  ResolveRow(Encodings(), RowOf(row.default_encoding).name, encoding);
  request.set_encoding(encoding);
  v1::Allocation allocation = request.allocation();
  how.allocation = ResolveRow(Allocations(), RowOf(row.default_allocation).name, allocation);
  request.set_allocation(allocation);
  v1::OutputFormat format = request.output_format();
  ResolveRow(OutputFormats(), OutputFormatName(CompressSpec().output_format), format);
  request.set_output_format(format);
  return how;
}

// "is not read by METHOD_SVD, but by METHOD_ASVD"
template <typename Enum, typename Row, typename Reads>
std::string NotReadBy(const Row& row, std::span<const Row> rows, const Reads& reads) {
  const auto name = [](const Row& of) {
    const auto* const value = FindValue(*google::protobuf::GetEnumDescriptor<Enum>(), of.name);
    return value == nullptr ? std::string(of.name) : value->name();
  };
  std::vector<std::string> readers;
  for (const Row& other : rows) {
    if (reads(other)) readers.push_back(name(other));
  }
  return "is not read by " + name(row) + ", but by " + absl::StrJoin(readers, ", ");
}

// The settings that only some methods read: each is a field of its name. One that the method reads
// gets its default where it is left open; one that it does not read would have no effect, and who
// sends it means another method.
void ResolveSettings(Checker& check, const MethodRow* method, v1::CompressModelRequest& request) {
  const CompressSpec defaults;
  const auto& reflection = *request.GetReflection();
  for (const MethodSetting& setting : MethodSettings()) {
    const std::string name(setting.name);
    const auto* const field = request.GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) continue;
    const auto reads = [&setting](const MethodRow& row) {
      return std::find(row.settings.begin(), row.settings.end(), setting.name) !=
             row.settings.end();
    };
    const bool given = reflection.HasField(request, field);
    if (method != nullptr && !reads(*method)) {
      if (given) check.Fail(name, NotReadBy<v1::Method>(*method, Methods(), reads));
      continue;
    }
    if (method != nullptr && !given) {
      reflection.SetDouble(&request, field, defaults.*setting.value);
    }
    check.Share(name, reflection.GetDouble(request, field));
  }
}

// Of resolved keep ratios.
void ResolveFloor(Checker& check, const AllocationRow* allocation,
                  v1::CompressModelRequest& request) {
  const auto reads = [](const AllocationRow& row) { return row.has_floor; };
  if (allocation == nullptr) return;
  if (!reads(*allocation)) {
    check.Require(!request.has_min_keep_ratio(), "min_keep_ratio",
                  NotReadBy<v1::Allocation>(*allocation, Allocations(), reads));
    return;
  }
  double least = 1;
  for (const double ratio : request.keep_ratios()) least = std::min(least, ratio);
  if (!request.has_min_keep_ratio()) {
    request.set_min_keep_ratio(std::min(CompressSpec().min_keep_ratio, least / 2));
  } else if (!(request.min_keep_ratio() >= 0 && request.min_keep_ratio() < 1)) {
    check.Fail("min_keep_ratio", "must be at least 0 and below 1");
  } else if (least > 0 && request.min_keep_ratio() > least) {
    check.Fail("min_keep_ratio",
               "is above a keep ratio: no matrix could keep less than all of them");
  }
}

void ResolveRankMultiple(Checker& check, v1::CompressModelRequest& request) {
  if (request.rank_multiple() == 0) request.set_rank_multiple(1);
  check.Require(request.rank_multiple() >= 1 && request.rank_multiple() <= kMaxRankMultiple,
                "rank_multiple", "must be 1 to " + std::to_string(kMaxRankMultiple));
}

void ResolveSource(Checker& check, const std::string& field, v1::CalibrationSource& source) {
  if (source.has_text()) {
    check.Text(field + ".text", *source.mutable_text());
  } else {
    check.Require(source.model_samples(), field, "needs text, or model_samples to be true");
  }
  if (!source.has_weight()) source.set_weight(CalibrationSource().weight);
  check.Require(source.weight() > 0 && source.weight() <= kMaxSourceWeight, field + ".weight",
                "must be above 0 and at most 1000000");
}

// Whether a text is cut into windows, so that one can ask how they begin.
bool HasWindows(const v1::Calibration& calibration) {
  const auto joined = [](const v1::TextSource& text) {
    return text.packing() == v1::PACKING_CONCATENATED;
  };
  const auto& sources = calibration.sources();
  return (calibration.has_text() && joined(calibration.text())) ||
         std::any_of(sources.begin(), sources.end(), [&](const v1::CalibrationSource& source) {
           return source.has_text() && joined(source.text());
         });
}

// "is required by METHOD_ANCHORED"; empty where nothing is read of what goes into the layers.
std::string WhyCalibrated(const How& how) {
  const std::string required = "is required by ";
  if (how.method == nullptr || how.allocation == nullptr) return "";  // refused for that
  if (!ReadsInputs(*how.method, *how.allocation)) return "";
  if (how.method->statistic == Statistic::kNone) {
    return required + v1::Allocation_Name(ValueNamed<v1::Allocation>(how.allocation->name));
  }
  return required + v1::Method_Name(ValueNamed<v1::Method>(how.method->name));
}

void ResolveCalibration(Checker& check, const How& how, v1::CompressModelRequest& request) {
  v1::Calibration& calibration = *request.mutable_calibration();
  if (calibration.has_text()) {
    check.Text("calibration.text", *calibration.mutable_text());
    check.Require(calibration.sources().empty(), "calibration.sources",
                  "excludes calibration.text, which stands for one source");
  } else if (calibration.sources().empty()) {
    const std::string why = WhyCalibrated(how);
    if (!why.empty()) {
      check.Fail("calibration.text", why + ", or calibration.sources instead");
    } else if (calibration.ByteSizeLong() > 0) {
      check.Fail("calibration.text",
                 "is absent, and then nothing else of calibration has an effect");
    } else {
      return request.clear_calibration();
    }
  }
  if (check.Bounded("calibration.sources", calibration.sources_size(), kMaxSources)) {
    for (int i = 0; i < calibration.sources_size(); ++i) {
      ResolveSource(check, "calibration.sources[" + std::to_string(i) + "]",
                    *calibration.mutable_sources(i));
    }
  }
  if (calibration.samples() == 0) calibration.set_samples(CalibrationSpec().samples);
  check.Require(calibration.samples() > 0 && calibration.samples() <= kMaxSamples,
                "calibration.samples", "must be 1 to " + std::to_string(kMaxSamples));
  check.SeqLen("calibration.seq_len", calibration.seq_len());
  if (!calibration.has_seed()) calibration.set_seed(CalibrationSpec().seed);
  check.Require(calibration.first_document() >= 0, "calibration.first_document",
                "must not be negative");
  check.Require(calibration.window_start() == 0 || HasWindows(calibration),
                "calibration.window_start", kNoWindows);
}

// Of a task that asks questions.
void ResolveQuestions(Checker& check, const TaskPaths& paths, v1::EvaluationTask& task) {
  if (!task.labels_uri().empty()) check.Input(paths.labels_uri, *task.mutable_labels_uri());
  if (task.fewshot_uri().empty()) {
    check.Require(task.num_fewshot() == 0, paths.num_fewshot,
                  "needs fewshot_uri, the file that the examples are taken from");
    return;
  }
  check.Input(paths.fewshot_uri, *task.mutable_fewshot_uri());
  check.Require(task.num_fewshot() >= 1 && task.num_fewshot() <= kMaxFewshot, paths.num_fewshot,
                "must be 1 to " + std::to_string(kMaxFewshot));
}

// taken: the labels of the tasks before. reserved: what no label may begin with; empty: nothing.
void ResolveTask(Checker& check, const TaskPaths& paths, const std::string& reserved,
                 std::set<std::string>& taken, v1::EvaluationTask& task) {
  const std::vector<std::string> tasks = SupportedTasks();
  const bool known = std::find(tasks.begin(), tasks.end(), task.name()) != tasks.end();
  if (check.Bounded(paths.name, task.name(), kMaxNameBytes)) {
    check.Require(
        known, paths.name,
        "\"" + task.name() + "\" is not a task of this server: " + absl::StrJoin(tasks, ", "));
  }
  if (task.label().empty()) task.set_label(task.name());
  if (check.Bounded(paths.label, task.label(), kMaxNameBytes)) {
    check.Require(taken.insert(task.label()).second, paths.label,
                  "\"" + task.label() + "\" is another task's already");
    check.Require(reserved.empty() || !task.label().starts_with(reserved), paths.label,
                  "must not begin with " + reserved);
  }
  check.Text(paths.dataset, *task.mutable_dataset());
  check.Limit(paths.limit, task.limit());
  if (FindTextTask(task.name()) != nullptr) {
    check.SeqLen(paths.seq_len, task.seq_len());
    check.Require(task.window_start() == 0 || task.dataset().packing() == v1::PACKING_CONCATENATED,
                  paths.window_start, kNoWindows);
    check.Require(task.labels_uri().empty(), paths.labels_uri, "a text has no labels");
    check.Require(task.fewshot_uri().empty() && task.num_fewshot() == 0, paths.fewshot_uri,
                  "a text has no examples");
    return;
  }
  check.Require(!known || task.seq_len() == 0, paths.seq_len, "belongs to tasks that read a text");
  check.Require(!known || task.window_start() == 0, paths.window_start,
                "belongs to tasks that read a text");
  ResolveQuestions(check, paths, task);
}

void ResolveTasks(Checker& check, const std::vector<TaskPaths>& paths, const std::string& reserved,
                  google::protobuf::RepeatedPtrField<v1::EvaluationTask>& tasks) {
  std::set<std::string> taken;
  for (int i = 0; i < tasks.size(); ++i) {
    ResolveTask(check, paths[static_cast<size_t>(i)], reserved, taken, tasks[i]);
  }
}

// What the model's positions leave for a prompt is the pipeline's to say.
void ResolveThroughput(Checker& check, const std::string& field, v1::Throughput& throughput) {
  const ThroughputSpec defaults;
  auto& sizes = *throughput.mutable_batch_sizes();
  if (sizes.empty()) {
    for (const int size : {1, 8}) sizes.Add(size);
  }
  const bool bounded = check.Bounded(field + ".batch_sizes", sizes.size(), kMaxBatchSizes);
  for (int i = 0; bounded && i < sizes.size(); ++i) {
    check.Require(sizes[i] >= 1 && sizes[i] <= kMaxBatchSize,
                  field + ".batch_sizes[" + std::to_string(i) + "]",
                  "must be 1 to " + std::to_string(kMaxBatchSize));
  }
  std::sort(sizes.begin(), sizes.end());
  check.Require(std::adjacent_find(sizes.begin(), sizes.end()) == sizes.end(),
                field + ".batch_sizes", "no two may be equal");
  if (throughput.new_tokens() == 0) throughput.set_new_tokens(defaults.new_tokens);
  if (throughput.repetitions() == 0) {
    throughput.set_repetitions(static_cast<int32_t>(defaults.repetitions));
  }
  check.Require(throughput.prompt_tokens() >= 0 && throughput.prompt_tokens() <= kMaxSeqLen,
                field + ".prompt_tokens",
                "must be 1 to " + std::to_string(kMaxSeqLen) + ", or 0 for the default");
  check.Require(throughput.new_tokens() >= 2 && throughput.new_tokens() <= kMaxDecodedTokens,
                field + ".new_tokens", "must be 2 to " + std::to_string(kMaxDecodedTokens));
  check.Require(throughput.repetitions() >= 1 && throughput.repetitions() <= kMaxRepetitions,
                field + ".repetitions", "must be 1 to " + std::to_string(kMaxRepetitions));
}

// Of a request with texts beside its tasks, which are tasks afterwards.
void ResolveReportTasks(Checker& check, v1::ReportEvaluation& evaluation) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const bool text = evaluation.has_text();
  check.Require(text || evaluation.seq_len() == 0, "evaluation.seq_len",
                "belongs to evaluation.text, which is absent");
  check.Require(text || evaluation.limit() == 0, "evaluation.limit",
                "belongs to evaluation.text, which is absent");
  const int texts = evaluation.texts_size();
#pragma GCC diagnostic pop
  if (!check.Bounded("evaluation.texts", texts, kMaxTasks) ||
      !check.Bounded("evaluation.tasks", evaluation.tasks_size(), kMaxTasks)) {
    return;
  }
  const std::vector<TaskPaths> paths = MoveTexts(evaluation);
  check.Require(evaluation.tasks_size() <= kMaxTasks, "evaluation.tasks",
                "at most " + std::to_string(kMaxTasks) + ", texts among them");
  ResolveTasks(check, paths, kHeldOutName, *evaluation.mutable_tasks());
}

void ResolveEvaluation(Checker& check, v1::ReportEvaluation& evaluation) {
  ResolveReportTasks(check, evaluation);
  if (evaluation.has_throughput()) {
    ResolveThroughput(check, "evaluation.throughput", *evaluation.mutable_throughput());
  }
}

template <typename Request>
void ResolveOutput(Checker& check, const std::string& default_output, Request& request) {
  if (request.output_uri().empty()) {
    request.set_output_uri(default_output);
  } else {
    check.Output("output_uri", *request.mutable_output_uri());
  }
}

bool IsSet(const v1::AcceptanceThreshold& threshold) {
  return threshold.has_max_accuracy_drop() || threshold.has_max_perplexity_increase();
}

// other_texts: perplexity is measured on texts that are no tasks. A gate that has nothing to look
// at would let everything pass.
void ResolveThreshold(Checker& check, const v1::AcceptanceThreshold& threshold,
                      const google::protobuf::RepeatedPtrField<v1::EvaluationTask>& tasks,
                      bool other_texts) {
  const auto reads_text = [](const v1::EvaluationTask& task) {
    return FindTextTask(task.name()) != nullptr;
  };
  check.Require(
      !threshold.has_max_accuracy_drop() || !std::all_of(tasks.begin(), tasks.end(), reads_text),
      "threshold.max_accuracy_drop", "there is no task with an accuracy to compare");
  check.Require(!threshold.has_max_perplexity_increase() || other_texts ||
                    std::any_of(tasks.begin(), tasks.end(), reads_text),
                "threshold.max_perplexity_increase", "there is no text to compare perplexities on");
  check.Share("threshold.max_accuracy_drop", threshold.max_accuracy_drop());
  check.Require(threshold.max_perplexity_increase() >= 0 &&
                    std::isfinite(threshold.max_perplexity_increase()),
                "threshold.max_perplexity_increase", "must be a number of at least 0");
}

void ResolveThreshold(Checker& check, const v1::EvaluateRequest& request) {
  if (!IsSet(request.threshold())) return;
  check.Require(!request.baseline().empty(), "baseline", "is required with a threshold");
  ResolveThreshold(check, request.threshold(), request.tasks(), /*other_texts=*/false);
}

// Of a request whose tasks are resolved.
void ResolveThreshold(Checker& check, const v1::CompressModelRequest& request) {
  if (!IsSet(request.threshold())) {
    check.Require(!request.keep_rejected(), "keep_rejected",
                  "needs a threshold, which is what rejects");
    return;
  }
  if (!check.Require(!request.evaluation().disabled(), "threshold",
                     "needs an evaluation, which is disabled")) {
    return;
  }
  // What calibration leaves of its texts is measured too.
  const v1::Calibration& calibration = request.calibration();
  const bool held_out =
      calibration.has_text() ||
      std::any_of(calibration.sources().begin(), calibration.sources().end(),
                  [](const v1::CalibrationSource& source) { return source.has_text(); });
  ResolveThreshold(check, request.threshold(), request.evaluation().tasks(), held_out);
}

}  // namespace

absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::CompressModelRequest& request) {
  Checker check(store, request);
  check.Common(request);
  check.Input("model", *request.mutable_model());
  const How how = ResolveHow(request);
  ResolveKeepRatios(check, request);
  ResolveSettings(check, how.method, request);
  ResolveFloor(check, how.allocation, request);
  ResolveRankMultiple(check, request);
  ResolveCalibration(check, how, request);
  ResolveEvaluation(check, *request.mutable_evaluation());
  ResolveThreshold(check, request);
  ResolveOutput(check, default_output, request);
  return check.Result();
}

absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::EvaluateRequest& request) {
  Checker check(store, request);
  check.Common(request);
  check.Input("model", *request.mutable_model());
  if (!request.baseline().empty()) check.Input("baseline", *request.mutable_baseline());
  ResolveThreshold(check, request);
  check.Require(request.tasks_size() > 0 || request.has_throughput(), "tasks",
                "at least one is required, or throughput");
  if (check.Bounded("tasks", request.tasks_size(), kMaxTasks)) {
    ResolveTasks(check, PathsOfTasks("tasks", request.tasks_size()), "", *request.mutable_tasks());
  }
  if (request.has_throughput()) {
    ResolveThroughput(check, "throughput", *request.mutable_throughput());
  }
  ResolveOutput(check, default_output, request);
  return check.Result();
}

}  // namespace svdllm
