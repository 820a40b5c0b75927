#include "server/spec_proto.h"

#include <utility>

#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

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
  source.packing =
      text.packing() == v1::PACKING_DOCUMENTS ? Packing::kDocuments : Packing::kConcatenated;
  return source;
}

Method ToMethod(v1::Method method) {
  switch (method) {
    case v1::METHOD_SVD:
      return Method::kSvd;
    case v1::METHOD_ASVD:
      return Method::kAsvd;
    case v1::METHOD_SVD_LLM_UPDATE:
      return Method::kSvdLlmUpdate;
    case v1::METHOD_ANCHORED:
      return Method::kAnchored;
    default:
      return Method::kSvdLlm;
  }
}

Allocation ToAllocation(v1::Allocation allocation) {
  switch (allocation) {
    case v1::ALLOCATION_V2:
      return Allocation::kV2;
    case v1::ALLOCATION_D_RANK:
      return Allocation::kDRank;
    case v1::ALLOCATION_RELATIVE_TAILS:
      return Allocation::kRelativeTails;
    case v1::ALLOCATION_KL_PROBE:
      return Allocation::kKlProbe;
    default:
      return Allocation::kUniform;
  }
}

absl::StatusOr<CalibrationSpec> ToSpec(const v1::Calibration& calibration,
                                       const ArtifactStore& store, const std::string& scratch_dir) {
  CalibrationSpec spec;
  if (calibration.has_text()) {
    ASSIGN_OR_RETURN(
        spec.sources.emplace_back().text,
        FetchText(store, calibration.text(), scratch_dir, kCalibrationInvalid, "calibration.text"));
  }
  for (int i = 0; i < calibration.sources_size(); ++i) {
    const v1::CalibrationSource& source = calibration.sources(i);
    CalibrationSource& added = spec.sources.emplace_back();
    added.weight = source.weight();
    added.model_samples = source.model_samples();
    if (!source.has_text()) continue;
    ASSIGN_OR_RETURN(added.text, FetchText(store, source.text(), scratch_dir, kCalibrationInvalid,
                                           "calibration.sources[" + std::to_string(i) + "].text"));
  }
  spec.samples = calibration.samples();
  spec.seq_len = calibration.seq_len();
  spec.seed = calibration.seed();
  spec.first_document = calibration.first_document();
  return spec;
}

absl::StatusOr<std::vector<PerplexitySpec>> ToSpecs(const v1::ReportEvaluation& evaluation,
                                                    const ArtifactStore& store,
                                                    const std::string& scratch_dir) {
  std::vector<PerplexitySpec> specs;
  const auto add = [&](const std::string& name, const v1::TextSource& text, int64_t seq_len,
                       int64_t limit, const std::string& what) -> absl::Status {
    PerplexitySpec& spec = specs.emplace_back();
    spec.name = name;
    spec.seq_len = seq_len;
    spec.limit = limit;
    ASSIGN_OR_RETURN(spec.text, FetchText(store, text, scratch_dir, kDatasetInvalid, what));
    return absl::OkStatus();
  };
  if (evaluation.disabled()) return specs;
  if (evaluation.has_text()) {
    RETURN_IF_ERROR(add(kTextName, evaluation.text(), evaluation.seq_len(), evaluation.limit(),
                        "evaluation.text"));
  }
  for (int i = 0; i < evaluation.texts_size(); ++i) {
    const v1::EvaluationText& text = evaluation.texts(i);
    RETURN_IF_ERROR(add(text.name(), text.text(), text.seq_len(), text.limit(),
                        "evaluation.texts[" + std::to_string(i) + "].text"));
  }
  return specs;
}

ThroughputSpec ToSpec(const v1::Throughput& throughput) {
  ThroughputSpec spec;
  spec.batch_sizes.assign(throughput.batch_sizes().begin(), throughput.batch_sizes().end());
  spec.prompt_tokens = throughput.prompt_tokens();
  spec.new_tokens = throughput.new_tokens();
  spec.repetitions = throughput.repetitions();
  return spec;
}

absl::StatusOr<TaskSpec> ToTaskSpec(const v1::EvaluationTask& task, const ArtifactStore& store,
                                    const std::string& scratch_dir, const std::string& what) {
  TaskSpec spec;
  spec.task = task.name();
  spec.name = task.label();
  spec.num_fewshot = task.num_fewshot();
  spec.limit = task.limit();
  const auto fetch = [&](const std::string& uri, const char* field, std::string& path) {
    if (uri.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(path, Fetch(store, uri, scratch_dir, kDatasetInvalid, what + "." + field));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(fetch(task.dataset().uri(), "dataset", spec.path));
  RETURN_IF_ERROR(fetch(task.labels_uri(), "labels_uri", spec.labels_path));
  RETURN_IF_ERROR(fetch(task.fewshot_uri(), "fewshot_uri", spec.fewshot_path));
  return spec;
}

}  // namespace

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
  spec.encoding =
      request.encoding() == v1::ENCODING_PIVOTED ? Encoding::kPivoted : Encoding::kPlain;
  spec.allocation = ToAllocation(request.allocation());
  // Requests stored before these fields existed have none of them.
  if (request.rank_multiple() > 0) spec.rank_multiple = request.rank_multiple();
  if (request.has_min_keep_ratio()) spec.min_keep_ratio = request.min_keep_ratio();
  if (request.has_anchor_blend()) spec.anchor_blend = request.anchor_blend();
  if (request.has_anchor_ridge()) spec.anchor_ridge = request.anchor_ridge();
  spec.asvd_alpha = request.asvd_alpha();
  spec.output_format = request.output_format() == v1::OUTPUT_FORMAT_DENSE ? OutputFormat::kDense
                                                                          : OutputFormat::kFactored;
  ASSIGN_OR_RETURN(spec.calibration, ToSpec(request.calibration(), store, scratch_dir));
  spec.evaluate_held_out = !request.evaluation().disabled();
  ASSIGN_OR_RETURN(spec.measure.texts, ToSpecs(request.evaluation(), store, scratch_dir));
  if (request.evaluation().disabled()) return spec;
  if (request.evaluation().has_throughput()) {
    spec.measure.throughput = ToSpec(request.evaluation().throughput());
  }
  for (int i = 0; i < request.evaluation().tasks_size(); ++i) {
    ASSIGN_OR_RETURN(spec.measure.tasks.emplace_back(),
                     ToTaskSpec(request.evaluation().tasks(i), store, scratch_dir,
                                "evaluation.tasks[" + std::to_string(i) + "]"));
  }
  return spec;
}

absl::StatusOr<EvaluateSpec> ToSpec(const v1::EvaluateRequest& request, const ArtifactStore& store,
                                    const std::string& scratch_dir) {
  EvaluateSpec spec;
  spec.model_uri = request.model();
  ASSIGN_OR_RETURN(spec.model_dir,
                   Fetch(store, request.model(), scratch_dir, kModelNotFound, "model"));
  spec.output_uri = request.output_uri();
  spec.work_dir = scratch_dir;
  if (!request.baseline().empty()) {
    spec.baseline_uri = request.baseline();
    ASSIGN_OR_RETURN(spec.baseline_dir,
                     Fetch(store, request.baseline(), scratch_dir, kModelNotFound, "baseline"));
  }
  const v1::AcceptanceThreshold& threshold = request.threshold();
  if (threshold.has_max_accuracy_drop()) {
    spec.threshold.max_accuracy_drop = threshold.max_accuracy_drop();
  }
  if (threshold.has_max_perplexity_increase()) {
    spec.threshold.max_perplexity_increase = threshold.max_perplexity_increase();
  }
  if (request.has_throughput()) spec.measure.throughput = ToSpec(request.throughput());
  for (int i = 0; i < request.tasks_size(); ++i) {
    const v1::EvaluationTask& task = request.tasks(i);
    const std::string what = "tasks[" + std::to_string(i) + "]";
    const TextTask* const text_task = FindTextTask(task.name());
    if (text_task == nullptr) {
      ASSIGN_OR_RETURN(spec.measure.tasks.emplace_back(),
                       ToTaskSpec(task, store, scratch_dir, what));
      continue;
    }
    PerplexitySpec perplexity;
    perplexity.name = task.label();
    ASSIGN_OR_RETURN(perplexity.text, FetchText(store, task.dataset(), scratch_dir, kDatasetInvalid,
                                                what + ".dataset"));
    perplexity.text.rows = text_task->rows;
    perplexity.text.max_documents = text_task->max_documents;
    perplexity.seq_len = task.seq_len();
    perplexity.limit = task.limit();
    spec.measure.texts.push_back(std::move(perplexity));
  }
  return spec;
}

}  // namespace svdllm
