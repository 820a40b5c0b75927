// compress: its flags and the request that they make.
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/measure_flags.h"
#include "client/cli/submit.h"
#include "client/cli/submit_commands.h"

namespace svdllm::cli {
namespace {

// What stands in place of a calibration file for the model's own samples.
constexpr char kModelSamples[] = "MODEL_SAMPLES";

struct CompressFlags {
  JobFlags job;
  MeasureFlags measure;
  v1::CompressModelRequest request;      // of --request, and what flags set as it is
  bool ratios_given = false;             // by a flag
  std::vector<std::string> calibration;  // "[WEIGHT:]FILE"
  std::optional<v1::Packing> calibration_packing;
  bool no_evaluation = false;
  bool keep_rejected = false;
  // From before the command had evaluate's words. What they do not say, the words of today do.
  std::vector<std::string> earlier_texts;  // "[NAME=]FILE"
  std::vector<std::string> earlier_tasks;  // "TASK=FILE"
  std::optional<int64_t> earlier_text_limit;
  std::optional<int64_t> earlier_task_limit;
};

void AddMethodFlags(FlagSet& flags, CompressFlags* given) {
  v1::CompressModelRequest* const request = &given->request;
  flags.AddRepeated(
      {"keep_ratio", "R[,R...]",
       "The share of the linear layers' parameters to keep, above 0 and up to 1. Several give one "
       "artifact each from one calibration, in keep-0.80 and so on below --output."},
      RealList([=](double ratio) {
        if (!std::exchange(given->ratios_given, true)) request->clear_keep_ratios();
        request->add_keep_ratios(ratio);
      }));
  flags.Require("keep_ratio");
  flags.AddEnum<v1::Method>(
      "method",
      "How a matrix becomes one of low rank. docs/usage.md explains the methods, svdllm "
      "server-info lists those that the server has. Default: the server's choice, which "
      "--validate_only shows.",
      [=](v1::Method method) { request->set_method(method); });
  flags.AddEnum<v1::Encoding>("encoding",
                              "How a matrix of low rank is stored. Default: as the method asks.",
                              [=](v1::Encoding encoding) { request->set_encoding(encoding); });
  flags.AddEnum<v1::Allocation>(
      "allocation", "How ranks are spread over the matrices. Default: as the method asks.",
      [=](v1::Allocation allocation) { request->set_allocation(allocation); });
  flags.Add({"min_keep_ratio", "R",
             "With allocations that look at the matrices: none gets a rank below the largest that "
             "fits this share of its numbers. Default: 0.1, or half the least --keep_ratio where "
             "that is less."},
            RealValue([=](double ratio) { request->set_min_keep_ratio(ratio); }));
  flags.Add(
      {"rank_multiple", "N",
       "Ranks are multiples of this where they can be, up to 1024: what a device's tiles like. "
       "Default: 1."},
      IntegerValue(
          1, [=](int64_t n) { request->set_rank_multiple(static_cast<int32_t>(n)); }, INT32_MAX));
  flags.Add({"asvd_alpha", "A",
             "With --method=asvd: the exponent of the channel scales, 0 to 1. Default: 0.5."},
            RealValue([=](double alpha) { request->set_asvd_alpha(alpha); }));
  flags.Add({"anchor_blend", "B",
             "With --method=anchored: how far the target goes from what a layer computes on the "
             "compressed model's inputs (0) to what it computes in the dense model (1). Default: "
             "0.5."},
            RealValue([=](double blend) { request->set_anchor_blend(blend); }));
  flags.Add({"anchor_ridge", "M",
             "With --method=anchored: what holds the target to the weights, as a share of the "
             "inputs' mean square, 0 to 1. Default: 1e-6."},
            RealValue([=](double ridge) { request->set_anchor_ridge(ridge); }));
}

void AddCalibrationFlags(FlagSet& flags, CompressFlags* given) {
  v1::Calibration* const calibration = given->request.mutable_calibration();
  flags.Group("Calibration");
  flags.AddRepeated(
      {"calibration", "[WEIGHT:]FILE|URI|MODEL_SAMPLES",
       "The text to calibrate on: plain text, .jsonl (a document a line) or .json (an array). "
       "Read by the server, like --model. Several give sequences in proportion to their weights, "
       "1 where none is given: --calibration=3:wiki.txt --calibration=c4.jsonl. MODEL_SAMPLES "
       "stands for text that the model itself writes. Default: none, which is for --method=svd; "
       "others need one, and so does --allocation=kl_probe."},
      TextValue(&given->calibration));
  flags.Add({"calibration_samples", "N", "Sequences, of all texts together. Default: 256."},
            IntegerValue(1, [=](int64_t samples) { calibration->set_samples(samples); }));
  flags.Add(
      {"calibration_seq_len", "N",
       "Tokens per sequence. Default: 2048, or as many as the model has positions where those "
       "are fewer."},
      IntegerValue(0, [=](int64_t tokens) { calibration->set_seq_len(tokens); }));
  flags.Add({"seed", "N", "Draws the sequences; the same seed, the same bytes. Default: 3."},
            IntegerValue(0, [=](int64_t seed) { calibration->set_seed(seed); }));
  flags.AddEnum<v1::Packing>(
      "calibration_packing",
      "How a --calibration's text becomes sequences: its documents joined, tokenised as one text "
      "and then cut, or each document one sequence, cut at --calibration_seq_len. Default: "
      "concatenated.",
      [given](v1::Packing packing) { given->calibration_packing = packing; });
  flags.AddEnum<v1::WindowStart>(
      "calibration_window_start",
      "As --window_start, of the sequences and of what is left for measuring. Default: as the "
      "model's family needs it, window for Gemma and text for others.",
      [=](v1::WindowStart start) { calibration->set_window_start(start); });
  flags.Add({"first_document", "N",
             "With --calibration_packing=documents: documents before this one are passed over. "
             "Default: 0."},
            IntegerValue(0, [=](int64_t document) { calibration->set_first_document(document); }));
}

void AddEarlierFlags(FlagSet& flags, CompressFlags* given) {
  flags.Group(kEarlierSpellings);
  flags.AddRepeated(
      {"evaluation", "[NAME=]FILE|URI",
       "The same as --dataset of a text. Default name: the file's, without its ending."},
      TextValue(&given->earlier_texts));
  flags.Alias("evaluation_seq_len", "seq_len");
  flags.Alias("evaluation_packing", "dataset_packing");
  flags.Add({"evaluation_limit", "N", "The same as --limit, of --evaluation's texts alone."},
            IntegerValue(0, [given](int64_t limit) { given->earlier_text_limit = limit; }));
  flags.AddRepeated({"task", "TASK=FILE|URI", "The same as --tasks=TASK --dataset=TASK=FILE."},
                    TextValue(&given->earlier_tasks));
  flags.Add({"task_limit", "N", "The same as --limit, of --task's questions alone."},
            IntegerValue(0, [given](int64_t limit) { given->earlier_task_limit = limit; }));
  flags.Alias("packing", "calibration_packing");
  flags.Need("evaluation_limit", "evaluation");
  flags.Need("task_limit", "task");
}

void ChangeText(const CompressFlags& given, v1::TextSource* text) {
  if (given.measure.text_field) text->set_text_field(*given.measure.text_field);
  if (given.calibration_packing) text->set_packing(*given.calibration_packing);
}

void FillText(const CompressFlags& given, const std::string& directory, const std::string& uri,
              v1::TextSource* text) {
  text->set_uri(Located(directory, uri));
  ChangeText(given, text);
}

// Of texts that a file has asked for.
void ChangeTexts(const CompressFlags& given, v1::Calibration* calibration) {
  if (calibration->has_text()) ChangeText(given, calibration->mutable_text());
  for (v1::CalibrationSource& source : *calibration->mutable_sources()) {
    if (source.has_text()) ChangeText(given, source.mutable_text());
  }
}

// One text as such; several sources, or one with more to say, as sources.
absl::Status FillSources(const CompressFlags& given, const std::string& directory,
                         v1::Calibration* calibration) {
  if (given.calibration.empty()) {
    ChangeTexts(given, calibration);
    return absl::OkStatus();
  }
  calibration->clear_text();
  calibration->clear_sources();
  for (const std::string& written : given.calibration) {
    const auto [weight, uri] = SplitWeighted(written);
    if (uri.empty()) return UsageError(absl::StrCat("--calibration=", written, " names no file"));
    const bool samples = uri == kModelSamples;
    if (given.calibration.size() == 1 && !samples) {
      FillText(given, directory, uri, calibration->mutable_text());
      break;
    }
    v1::CalibrationSource* const source = calibration->add_sources();
    if (samples) {
      source->set_model_samples(true);
    } else {
      FillText(given, directory, uri, source->mutable_text());
    }
    if (uri.size() < written.size()) source->set_weight(weight);
  }
  return absl::OkStatus();
}

void SetLimit(std::optional<int64_t> limit, v1::EvaluationTask* task) {
  if (limit) task->set_limit(*limit);
}

// What the earlier spellings ask for, behind the tasks of today's.
absl::Status AddEarlierTasks(const CompressFlags& given, const std::string& directory,
                             std::vector<v1::EvaluationTask>* tasks) {
  for (const std::string& written : given.earlier_tasks) {
    const auto [name, uri] = SplitNamed(written);
    if (name.empty() || uri.empty())
      return UsageError(absl::StrCat("--task=", written, " is not of the form TASK=FILE"));
    tasks->push_back(MakeTask(given.measure, directory, name, uri));
    SetLimit(given.earlier_task_limit, &tasks->back());
  }
  for (const std::string& written : given.earlier_texts) {
    const auto [name, uri] = SplitNamed(written);
    if (uri.empty()) return UsageError(absl::StrCat("--evaluation=", written, " names no file"));
    tasks->push_back(MakeTask(given.measure, directory, kPerplexity, uri));
    tasks->back().set_label(name.empty() ? StemOf(uri) : name);
    SetLimit(given.earlier_text_limit, &tasks->back());
  }
  return absl::OkStatus();
}

absl::Status FillEvaluation(const CompressFlags& given, const std::string& directory,
                            v1::CompressModelRequest* request) {
  v1::ReportEvaluation& evaluation = *request->mutable_evaluation();
  if (given.no_evaluation) {
    evaluation.Clear();
    evaluation.set_disabled(true);
    return absl::OkStatus();
  }
  const MeasureFlags& measure = given.measure;
  ASSIGN_OR_RETURN(std::vector<v1::EvaluationTask> tasks, MeasuredTasks(measure, directory));
  RETURN_IF_ERROR(AddEarlierTasks(given, directory, &tasks));
  if (tasks.empty()) {
    tasks.assign(evaluation.tasks().begin(), evaluation.tasks().end());
    ChangeTasks(measure, &tasks);
  }
  RETURN_IF_ERROR(AddTaskFiles(measure, directory, &tasks));
  // What is measured without tasks are windows of the calibration texts, which are as
  // calibration's.
  if (tasks.empty()) RETURN_IF_ERROR(CheckNoTextFlags(measure, /*other_texts=*/true));
  evaluation.mutable_tasks()->Assign(tasks.begin(), tasks.end());
  if (measure.wants_throughput) *evaluation.mutable_throughput() = measure.throughput;
  if (evaluation.ByteSizeLong() == 0) request->clear_evaluation();
  return absl::OkStatus();
}

absl::StatusOr<v1::CompressModelRequest> RequestOf(const CompressFlags& given,
                                                   const std::string& directory) {
  v1::CompressModelRequest request = given.request;
  FillJob(given.job, directory, &request);
  RETURN_IF_ERROR(FillSources(given, directory, request.mutable_calibration()));
  if (request.calibration().ByteSizeLong() == 0) request.clear_calibration();
  RETURN_IF_ERROR(FillEvaluation(given, directory, &request));
  if (request.threshold().ByteSizeLong() == 0) request.clear_threshold();
  if (given.keep_rejected) request.set_keep_rejected(true);
  return request;
}

}  // namespace

CommandAction DefineCompress(FlagSet& flags) {
  const auto given = std::make_shared<CompressFlags>();
  v1::CompressModelRequest* const request = &given->request;
  flags.Group("What");
  AddRequestFlag(flags, request);
  AddModelFlag(flags, &given->job);
  AddMethodFlags(flags, given.get());
  AddCalibrationFlags(flags, given.get());
  AddTextAndTaskFlags(flags, "Texts and tasks, before and after", &given->measure);
  flags.Switch("no_evaluation", &given->no_evaluation,
               "Measures nothing, and saves the time. Without it, perplexity is measured on what "
               "calibration leaves of its own texts, too.");
  AddThroughputFlags(flags, "Speed, before and after", &given->measure);
  flags.Group("Gate");
  AddThresholdFlags(flags, request->mutable_threshold());
  flags.Switch("keep_rejected", &given->keep_rejected,
               "Publishes the artifacts even where one loses more than that allows, to be looked "
               "at. Without it, none of the job's is published then. Default: off.");
  flags.Group("Output");
  AddOutputFlag(flags, &given->job);
  flags.AddEnum<v1::OutputFormat>(
      "output_format",
      "Small factors in place of each matrix, or (dense) the stock architecture with approximated "
      "weights, for tools that cannot load factors; not smaller. Default: factored.",
      [=](v1::OutputFormat format) { request->set_output_format(format); });
  AddJobFlags(flags, &given->job);
  AddEarlierFlags(flags, given.get());
  for (const std::string& name : MeasureFlagNames()) flags.Exclude("no_evaluation", name);
  for (const char* name : {"evaluation", "evaluation_seq_len", "evaluation_packing", "task",
                           "max_accuracy_drop", "max_perplexity_increase"}) {
    flags.Exclude("no_evaluation", name);
  }
  return [given](CommandContext& context) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const v1::CompressModelRequest made,
                     RequestOf(*given, context.environment.directory));
    return Submit(context, given->job, made);
  };
}

}  // namespace svdllm::cli
