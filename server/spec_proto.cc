#include "server/spec_proto.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "pipeline/pipeline.h"
#include "server/status_proto.h"

namespace svdllm {
namespace {

constexpr int64_t kMaxSamples = 1 << 20;
constexpr int64_t kMaxSeqLen = 1 << 20;

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
    if (text.packing() == v1::PACKING_UNSPECIFIED) text.set_packing(v1::CONCATENATED);
    Require(text.packing() == v1::CONCATENATED || text.packing() == v1::DOCUMENTS,
            field + ".packing", "is not a known value");
  }
  void SeqLen(const std::string& field, int64_t seq_len) {
    Require(seq_len == 0 || (seq_len >= 2 && seq_len <= kMaxSeqLen), field,
            "must be 2 to " + std::to_string(kMaxSeqLen) + ", or 0 for the default");
  }
  void Limit(const std::string& field, int64_t limit) {
    Require(limit >= 0, field, "must not be negative; 0 means all");
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

std::string TextOf(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

// The local path of an input; an absent one under the reason that tells which it was.
absl::StatusOr<std::string> Fetch(const ArtifactStore& store, const std::string& uri,
                                  const std::string& scratch_dir, std::string_view reason,
                                  const std::string& what) {
  auto path = store.Fetch(uri, scratch_dir);
  if (path.ok() || !ErrorReason(path.status()).empty()) return path;
  return MakeError(path.status().code(), reason, what + ": " + TextOf(path.status()));
}

absl::StatusOr<TextSource> FetchText(const ArtifactStore& store, const v1::TextSource& text,
                                     const std::string& scratch_dir, std::string_view reason,
                                     const std::string& what) {
  TextSource source;
  ASSIGN_OR_RETURN(source.path, Fetch(store, text.uri(), scratch_dir, reason, what));
  source.text_field = text.text_field();
  source.packing = text.packing() == v1::DOCUMENTS ? Packing::kDocuments : Packing::kConcatenated;
  return source;
}

Method ToMethod(v1::Method method) {
  switch (method) {
    case v1::SVD:
      return Method::kSvd;
    case v1::ASVD:
      return Method::kAsvd;
    case v1::SVD_LLM_UPDATE:
      return Method::kSvdLlmUpdate;
    default:
      return Method::kSvdLlm;
  }
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

}  // namespace

absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::CompressModelRequest& request) {
  Checker check(store);
  check.Common(request);
  check.Input("model", *request.mutable_model());
  if (request.method() == v1::METHOD_UNSPECIFIED) request.set_method(v1::SVD_LLM);
  check.Require(v1::Method_IsValid(request.method()), "method", "is not a known value");
  ResolveKeepRatios(check, request);
  if (request.allocation() == v1::ALLOCATION_UNSPECIFIED) request.set_allocation(v1::UNIFORM);
  check.Require(v1::Allocation_IsValid(request.allocation()), "allocation", "is not a known value");
  if (request.output_format() == v1::OUTPUT_FORMAT_UNSPECIFIED) {
    request.set_output_format(v1::FACTORED);
  }
  check.Require(v1::OutputFormat_IsValid(request.output_format()), "output_format",
                "is not a known value");
  if (request.encoding() == v1::ENCODING_UNSPECIFIED) request.set_encoding(v1::PLAIN);
  check.Require(v1::Encoding_IsValid(request.encoding()), "encoding", "is not a known value");

  v1::Calibration& calibration = *request.mutable_calibration();
  check.Text("calibration.text", *calibration.mutable_text());
  if (calibration.samples() == 0) calibration.set_samples(CalibrationSpec().samples);
  check.Require(calibration.samples() > 0 && calibration.samples() <= kMaxSamples,
                "calibration.samples", "must be 1 to " + std::to_string(kMaxSamples));
  check.SeqLen("calibration.seq_len", calibration.seq_len());
  if (!calibration.has_seed()) calibration.set_seed(CalibrationSpec().seed);
  check.Require(calibration.first_document() >= 0, "calibration.first_document",
                "must not be negative");

  if (!request.has_asvd_alpha()) request.set_asvd_alpha(CompressSpec().asvd_alpha);
  check.Require(request.asvd_alpha() >= 0 && request.asvd_alpha() <= 1, "asvd_alpha",
                "must be 0 to 1");
  v1::ReportEvaluation& evaluation = *request.mutable_evaluation();
  if (evaluation.has_text()) check.Text("evaluation.text", *evaluation.mutable_text());
  check.SeqLen("evaluation.seq_len", evaluation.seq_len());
  check.Limit("evaluation.limit", evaluation.limit());
  if (request.output_uri().empty()) {
    request.set_output_uri(default_output);
  } else {
    check.Output("output_uri", *request.mutable_output_uri());
  }
  return check.Result();
}

absl::Status ResolveRequest(const ArtifactStore& store, v1::EvaluateRequest& request) {
  Checker check(store);
  check.Common(request);
  check.Input("model", *request.mutable_model());
  check.Require(request.tasks_size() > 0, "tasks", "at least one is required");
  check.Require(request.tasks_size() <= kMaxTasks, "tasks", "at most " + std::to_string(kMaxTasks));
  const std::vector<std::string> tasks = SupportedTasks();
  std::set<std::string> labels;
  for (int i = 0; i < request.tasks_size(); ++i) {
    v1::EvaluationTask& task = *request.mutable_tasks(i);
    const std::string field = "tasks[" + std::to_string(i) + "]";
    check.Require(
        std::find(tasks.begin(), tasks.end(), task.name()) != tasks.end(), field + ".name",
        "\"" + task.name() + "\" is not a task of this server: " + absl::StrJoin(tasks, ", "));
    if (task.label().empty()) task.set_label(task.name());
    check.Require(labels.insert(task.label()).second, field + ".label",
                  "\"" + task.label() + "\" is another task's already");
    check.Text(field + ".dataset", *task.mutable_dataset());
    check.SeqLen(field + ".seq_len", task.seq_len());
    check.Limit(field + ".limit", task.limit());
  }
  return check.Result();
}

absl::StatusOr<CompressSpec> ToSpec(const v1::CompressModelRequest& request,
                                    const ArtifactStore& store, const std::string& scratch_dir) {
  CompressSpec spec;
  spec.model_uri = request.model();
  spec.output_uri = request.output_uri();
  spec.work_dir = scratch_dir;
  ASSIGN_OR_RETURN(spec.model_dir,
                   Fetch(store, request.model(), scratch_dir, kModelNotFound, "model"));
  spec.method = ToMethod(request.method());
  spec.keep_ratios.assign(request.keep_ratios().begin(), request.keep_ratios().end());
  spec.allocation = request.allocation() == v1::V2 ? Allocation::kV2 : Allocation::kUniform;
  spec.output_format =
      request.output_format() == v1::DENSE ? OutputFormat::kDense : OutputFormat::kFactored;
  spec.asvd_alpha = request.asvd_alpha();
  const v1::Calibration& calibration = request.calibration();
  ASSIGN_OR_RETURN(spec.calibration.text, FetchText(store, calibration.text(), scratch_dir,
                                                    kCalibrationInvalid, "calibration.text"));
  spec.calibration.samples = calibration.samples();
  spec.calibration.seq_len = calibration.seq_len();
  spec.calibration.seed = calibration.seed();
  spec.calibration.first_document = calibration.first_document();
  const v1::ReportEvaluation& evaluation = request.evaluation();
  spec.evaluation.name = "perplexity";
  spec.evaluation.seq_len = evaluation.seq_len();
  spec.evaluation.limit = evaluation.disabled() ? -1 : evaluation.limit();
  if (evaluation.has_text() && !evaluation.disabled()) {
    ASSIGN_OR_RETURN(spec.evaluation.text, FetchText(store, evaluation.text(), scratch_dir,
                                                     kDatasetInvalid, "evaluation.text"));
  }
  return spec;
}

absl::StatusOr<EvaluateSpec> ToSpec(const v1::EvaluateRequest& request, const ArtifactStore& store,
                                    const std::string& scratch_dir) {
  EvaluateSpec spec;
  spec.model_uri = request.model();
  ASSIGN_OR_RETURN(spec.model_dir,
                   Fetch(store, request.model(), scratch_dir, kModelNotFound, "model"));
  for (int i = 0; i < request.tasks_size(); ++i) {
    const v1::EvaluationTask& task = request.tasks(i);
    PerplexitySpec perplexity;
    perplexity.name = task.label();
    ASSIGN_OR_RETURN(perplexity.text, FetchText(store, task.dataset(), scratch_dir, kDatasetInvalid,
                                                "tasks[" + std::to_string(i) + "].dataset"));
    perplexity.seq_len = task.seq_len();
    perplexity.limit = task.limit();
    spec.perplexities.push_back(std::move(perplexity));
  }
  return spec;
}

}  // namespace svdllm
