// Requests as they are sent, to requests as they are run.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <set>

#include "absl/strings/str_join.h"
#include "pipeline/supported.h"
#include "server/spec_proto.h"
#include "server/status_proto.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

constexpr int64_t kMaxSamples = 1 << 20;
constexpr int64_t kMaxSeqLen = 1 << 20;
constexpr int kMaxRankMultiple = 1024;
constexpr int64_t kMaxLimit = 1'000'000'000;

// Collects what is wrong with a request.
class Checker {
 public:
  explicit Checker(const ArtifactStore& store) : store_(store) {}

  void Fail(const std::string& field, const std::string& description) {
    violations_.push_back({field, description});
  }
  void Require(bool condition, const std::string& field, const std::string& description) {
    if (!condition) Fail(field, description);
  }
  // The canonical form of an input.
  void Input(const std::string& field, std::string& uri) {
    if (uri.empty()) return Fail(field, "is required");
    Canonical(field, store_.ResolveInput(uri), uri);
  }
  void Output(const std::string& field, std::string& uri) {
    Canonical(field, store_.ResolveOutput(uri), uri);
  }
  void Text(const std::string& field, v1::TextSource& text) {
    Input(field + ".uri", *text.mutable_uri());
    if (text.text_field().empty()) text.set_text_field("text");
    if (text.packing() == v1::PACKING_UNSPECIFIED) text.set_packing(v1::PACKING_CONCATENATED);
    Require(text.packing() == v1::PACKING_CONCATENATED || text.packing() == v1::PACKING_DOCUMENTS,
            field + ".packing", "is not a known value");
  }
  void SeqLen(const std::string& field, int64_t seq_len) {
    Require(seq_len == 0 || (seq_len >= 2 && seq_len <= kMaxSeqLen), field,
            "must be 2 to " + std::to_string(kMaxSeqLen) + ", or 0 for the default");
  }
  void Share(const std::string& field, double value) {
    Require(value >= 0 && value <= 1, field, "must be 0 to 1");  // false for NaN
  }
  void Limit(const std::string& field, int64_t limit) {
    Require(limit >= 0 && limit <= kMaxLimit, field,
            "must be 0, which means all, to " + std::to_string(kMaxLimit));
  }
  template <typename Request>
  void Common(const Request& request);

  absl::Status Result() const {
    return violations_.empty() ? absl::OkStatus() : InvalidFields(violations_, code_);
  }

 private:
  void Canonical(const std::string& field, absl::StatusOr<std::string> resolved, std::string& uri) {
    if (resolved.ok()) {
      uri = *std::move(resolved);
      return;
    }
    if (absl::IsPermissionDenied(resolved.status())) code_ = resolved.status().code();
    const absl::string_view message = resolved.status().message();
    Fail(field, std::string(message.data(), message.size()));
  }

  const ArtifactStore& store_;
  std::vector<FieldViolation> violations_;
  absl::StatusCode code_ = absl::StatusCode::kInvalidArgument;
};

bool IsUuid(const std::string& text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) {
      return false;
    }
  }
  return true;
}

template <typename Request>
void Checker::Common(const Request& request) {
  Require(request.request_id().empty() || IsUuid(request.request_id()), "request_id",
          "must be a UUID such as 123e4567-e89b-42d3-a456-426614174000");
  Require(request.labels_size() <= kMaxLabels, "labels",
          "at most " + std::to_string(kMaxLabels) + " labels");
  for (const auto& [key, value] : request.labels()) {
    Require(!key.empty() && key.size() <= kMaxLabelBytes && value.size() <= kMaxLabelBytes,
            "labels[" + key.substr(0, 32) + "]", "keys have 1 to 128 bytes, values at most 128");
  }
  const auto& timeout = request.timeout();
  Require(timeout.seconds() >= 0 && timeout.nanos() >= 0 && timeout.nanos() < 1'000'000'000 &&
              timeout.seconds() < 100 * 365 * 86400ll,
          "timeout", "must be a duration that is not negative");
}

void ResolveKeepRatios(Checker& check, v1::CompressModelRequest& request) {
  auto* ratios = request.mutable_keep_ratios();
  check.Require(!ratios->empty(), "keep_ratios", "at least one is required");
  check.Require(ratios->size() <= kMaxKeepRatios, "keep_ratios",
                "at most " + std::to_string(kMaxKeepRatios));
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

// What a caller gets who does not say how: the one place that knows.
void ResolveHow(v1::CompressModelRequest& request) {
  if (request.method() == v1::METHOD_UNSPECIFIED) request.set_method(v1::METHOD_ANCHORED);
  // The methods of papers are what their papers say; ours brings what was measured to go best with
  // it (docs/quality.md).
  const bool own = request.method() == v1::METHOD_ANCHORED;
  if (request.encoding() == v1::ENCODING_UNSPECIFIED) {
    request.set_encoding(own ? v1::ENCODING_PIVOTED : v1::ENCODING_PLAIN);
  }
  if (request.allocation() == v1::ALLOCATION_UNSPECIFIED) {
    request.set_allocation(own ? v1::ALLOCATION_KL_PROBE : v1::ALLOCATION_UNIFORM);
  }
  if (request.output_format() == v1::OUTPUT_FORMAT_UNSPECIFIED) {
    request.set_output_format(v1::OUTPUT_FORMAT_FACTORED);
  }
}

// Of resolved keep ratios.
void ResolveNumbers(Checker& check, v1::CompressModelRequest& request) {
  const CompressSpec defaults;
  if (!request.has_asvd_alpha()) request.set_asvd_alpha(defaults.asvd_alpha);
  if (!request.has_anchor_blend()) request.set_anchor_blend(defaults.anchor_blend);
  if (!request.has_anchor_ridge()) request.set_anchor_ridge(defaults.anchor_ridge);
  check.Share("asvd_alpha", request.asvd_alpha());
  check.Share("anchor_blend", request.anchor_blend());
  check.Share("anchor_ridge", request.anchor_ridge());
  if (request.rank_multiple() == 0) request.set_rank_multiple(1);
  check.Require(request.rank_multiple() >= 1 && request.rank_multiple() <= kMaxRankMultiple,
                "rank_multiple", "must be 1 to " + std::to_string(kMaxRankMultiple));
  double least = 1;
  for (const double ratio : request.keep_ratios()) least = std::min(least, ratio);
  if (!request.has_min_keep_ratio()) {
    request.set_min_keep_ratio(std::min(defaults.min_keep_ratio, least / 2));
  } else if (!(request.min_keep_ratio() >= 0 && request.min_keep_ratio() < 1)) {
    check.Fail("min_keep_ratio", "must be at least 0 and below 1");
  } else if (least > 0 && request.min_keep_ratio() > least &&
             request.allocation() != v1::ALLOCATION_UNIFORM &&
             request.allocation() != v1::ALLOCATION_V2) {
    check.Fail("min_keep_ratio",
               "is above a keep ratio: no matrix could keep less than all of them");
  }
}

void ResolveCalibration(Checker& check, v1::Calibration& calibration) {
  if (calibration.has_text()) {
    check.Text("calibration.text", *calibration.mutable_text());
    check.Require(calibration.sources().empty(), "calibration.sources",
                  "excludes calibration.text, which stands for one source");
  } else {
    check.Require(!calibration.sources().empty(), "calibration.text",
                  "is required, or calibration.sources instead");
  }
  check.Require(calibration.sources_size() <= kMaxTexts, "calibration.sources",
                "at most " + std::to_string(kMaxTexts));
  for (int i = 0; i < calibration.sources_size(); ++i) {
    v1::CalibrationSource& source = *calibration.mutable_sources(i);
    const std::string field = "calibration.sources[" + std::to_string(i) + "]";
    if (source.has_text()) {
      check.Text(field + ".text", *source.mutable_text());
    } else {
      check.Require(source.model_samples(), field, "needs text, or model_samples to be true");
    }
    if (!source.has_weight()) source.set_weight(CalibrationSource().weight);
    check.Require(source.weight() > 0 && source.weight() <= kMaxSourceWeight, field + ".weight",
                  "must be above 0 and at most 1000000");
  }
  if (calibration.samples() == 0) calibration.set_samples(CalibrationSpec().samples);
  check.Require(calibration.samples() > 0 && calibration.samples() <= kMaxSamples,
                "calibration.samples", "must be 1 to " + std::to_string(kMaxSamples));
  check.SeqLen("calibration.seq_len", calibration.seq_len());
  if (!calibration.has_seed()) calibration.set_seed(CalibrationSpec().seed);
  check.Require(calibration.first_document() >= 0, "calibration.first_document",
                "must not be negative");
}

// labels: those taken already.
void ResolveTask(Checker& check, const std::string& field, std::set<std::string>& labels,
                 v1::EvaluationTask& task) {
  const std::vector<std::string> tasks = SupportedTasks();
  const bool known = std::find(tasks.begin(), tasks.end(), task.name()) != tasks.end();
  check.Require(
      known, field + ".name",
      "\"" + task.name() + "\" is not a task of this server: " + absl::StrJoin(tasks, ", "));
  if (task.label().empty()) task.set_label(task.name());
  check.Require(labels.insert(task.label()).second, field + ".label",
                "\"" + task.label() + "\" is another task's already");
  check.Text(field + ".dataset", *task.mutable_dataset());
  check.Limit(field + ".limit", task.limit());
  if (FindTextTask(task.name()) != nullptr) {
    check.SeqLen(field + ".seq_len", task.seq_len());
    check.Require(task.labels_uri().empty(), field + ".labels_uri", "a text has no labels");
    check.Require(task.fewshot_uri().empty() && task.num_fewshot() == 0, field + ".fewshot_uri",
                  "a text has no examples");
    return;
  }
  check.Require(!known || task.seq_len() == 0, field + ".seq_len",
                "belongs to tasks that read a text");
  if (!task.labels_uri().empty()) check.Input(field + ".labels_uri", *task.mutable_labels_uri());
  if (task.fewshot_uri().empty()) {
    check.Require(task.num_fewshot() == 0, field + ".num_fewshot",
                  "needs fewshot_uri, the file that the examples are taken from");
    return;
  }
  check.Input(field + ".fewshot_uri", *task.mutable_fewshot_uri());
  check.Require(task.num_fewshot() >= 1 && task.num_fewshot() <= kMaxFewshot,
                field + ".num_fewshot", "must be 1 to " + std::to_string(kMaxFewshot));
}

// What the model's positions leave for a prompt is the pipeline's to say.
void ResolveThroughput(Checker& check, const std::string& field, v1::Throughput& throughput) {
  const ThroughputSpec defaults;
  auto& sizes = *throughput.mutable_batch_sizes();
  if (sizes.empty()) {
    for (const int size : {1, 8}) sizes.Add(size);
  }
  check.Require(sizes.size() <= kMaxBatchSizes, field + ".batch_sizes",
                "at most " + std::to_string(kMaxBatchSizes));
  for (int i = 0; i < sizes.size(); ++i) {
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

void ResolveEvaluation(Checker& check, v1::ReportEvaluation& evaluation) {
  std::set<std::string> names;
  if (evaluation.has_text()) {
    check.Text("evaluation.text", *evaluation.mutable_text());
    names.insert(kTextName);
    check.SeqLen("evaluation.seq_len", evaluation.seq_len());
    check.Limit("evaluation.limit", evaluation.limit());
  } else {
    check.Require(evaluation.seq_len() == 0, "evaluation.seq_len",
                  "belongs to evaluation.text, which is absent");
    check.Require(evaluation.limit() == 0, "evaluation.limit",
                  "belongs to evaluation.text, which is absent");
  }
  check.Require(evaluation.tasks_size() <= kMaxTasks, "evaluation.tasks",
                "at most " + std::to_string(kMaxTasks));
  std::set<std::string> labels;
  for (int i = 0; i < evaluation.tasks_size(); ++i) {
    const std::string field = "evaluation.tasks[" + std::to_string(i) + "]";
    check.Require(FindTextTask(evaluation.tasks(i).name()) == nullptr, field + ".name",
                  "perplexity is measured on evaluation.texts");
    ResolveTask(check, field, labels, *evaluation.mutable_tasks(i));
  }
  check.Require(evaluation.texts_size() <= kMaxTexts, "evaluation.texts",
                "at most " + std::to_string(kMaxTexts));
  for (int i = 0; i < evaluation.texts_size(); ++i) {
    v1::EvaluationText& text = *evaluation.mutable_texts(i);
    const std::string field = "evaluation.texts[" + std::to_string(i) + "]";
    check.Text(field + ".text", *text.mutable_text());
    if (text.name().empty()) {
      text.set_name(std::filesystem::path(text.text().uri()).stem().string());
    }
    check.Require(names.insert(text.name()).second, field + ".name",
                  "\"" + text.name() + "\" is another text's already");
    check.Require(text.name().rfind(kHeldOutName, 0) != 0, field + ".name",
                  "must not begin with " + std::string(kHeldOutName));
    check.SeqLen(field + ".seq_len", text.seq_len());
    check.Limit(field + ".limit", text.limit());
  }
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

void ResolveThreshold(Checker& check, const v1::EvaluateRequest& request) {
  const v1::AcceptanceThreshold& threshold = request.threshold();
  if (!threshold.has_max_accuracy_drop() && !threshold.has_max_perplexity_increase()) return;
  check.Require(!request.baseline().empty(), "baseline", "is required with a threshold");
  // A gate that has nothing to look at would let everything pass.
  const auto reads_text = [](const v1::EvaluationTask& task) {
    return FindTextTask(task.name()) != nullptr;
  };
  const auto& tasks = request.tasks();
  check.Require(
      !threshold.has_max_accuracy_drop() || !std::all_of(tasks.begin(), tasks.end(), reads_text),
      "threshold.max_accuracy_drop", "there is no task with an accuracy to compare");
  check.Require(!threshold.has_max_perplexity_increase() ||
                    std::any_of(tasks.begin(), tasks.end(), reads_text),
                "threshold.max_perplexity_increase", "there is no text to compare perplexities on");
  check.Share("threshold.max_accuracy_drop", threshold.max_accuracy_drop());
  check.Require(threshold.max_perplexity_increase() >= 0 &&
                    std::isfinite(threshold.max_perplexity_increase()),
                "threshold.max_perplexity_increase", "must be a number of at least 0");
}

}  // namespace

absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::CompressModelRequest& request) {
  Checker check(store);
  check.Common(request);
  check.Input("model", *request.mutable_model());
  ResolveHow(request);
  check.Require(v1::Method_IsValid(request.method()), "method", "is not a known value");
  check.Require(v1::Allocation_IsValid(request.allocation()), "allocation", "is not a known value");
  check.Require(v1::Encoding_IsValid(request.encoding()), "encoding", "is not a known value");
  check.Require(v1::OutputFormat_IsValid(request.output_format()), "output_format",
                "is not a known value");
  ResolveKeepRatios(check, request);
  ResolveNumbers(check, request);
  ResolveCalibration(check, *request.mutable_calibration());
  ResolveEvaluation(check, *request.mutable_evaluation());
  ResolveOutput(check, default_output, request);
  return check.Result();
}

absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::EvaluateRequest& request) {
  Checker check(store);
  check.Common(request);
  check.Input("model", *request.mutable_model());
  if (!request.baseline().empty()) check.Input("baseline", *request.mutable_baseline());
  ResolveThreshold(check, request);
  check.Require(request.tasks_size() > 0 || request.has_throughput(), "tasks",
                "at least one is required, or throughput");
  check.Require(request.tasks_size() <= kMaxTasks, "tasks", "at most " + std::to_string(kMaxTasks));
  std::set<std::string> labels;
  for (int i = 0; i < request.tasks_size(); ++i) {
    ResolveTask(check, "tasks[" + std::to_string(i) + "]", labels, *request.mutable_tasks(i));
  }
  if (request.has_throughput()) {
    ResolveThroughput(check, "throughput", *request.mutable_throughput());
  }
  ResolveOutput(check, default_output, request);
  return check.Result();
}

}  // namespace svdllm
