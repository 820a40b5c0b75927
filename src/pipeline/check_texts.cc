#include "pipeline/check_texts.h"

#include "corpus/calibration.h"
#include "corpus/windows.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

absl::Status CheckMeasured(const MeasureSpec& measure, const Tokenizer& tokenizer,
                           const ModelConfig& config) {
  const int64_t read_bytes = ReadBytesOf(measure.texts.size());
  for (const PerplexitySpec& text : measure.texts) {
    RETURN_IF_ERROR(Annotate(CheckWindows(text, read_bytes, tokenizer, config), text.name));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTexts(const CompressJob& job, CompressPlan& plan) {
  const auto& [spec, checkpoint, linears] = job;
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(checkpoint.dir()));
  ASSIGN_OR_RETURN(const CalibrationCheck check,
                   CheckCalibration(spec.calibration, spec.evaluate_held_out ? kHeldOutWindows : 0,
                                    tokenizer, checkpoint.config()));
  plan.calibration_sequences = check.sequences();
  plan.warnings.insert(plan.warnings.end(), check.warnings.begin(), check.warnings.end());
  return CheckMeasured(spec.measure, tokenizer, checkpoint.config());
}

absl::Status CheckTexts(const EvaluateJob& job) {
  const auto check = [](const Subject& subject) -> absl::Status {
    ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(subject.checkpoint.dir()));
    return CheckMeasured(subject.measure, tokenizer, subject.checkpoint.config());
  };
  RETURN_IF_ERROR(check(job.model()));
  if (job.baseline() == nullptr) return absl::OkStatus();
  return Annotate(check(*job.baseline()), "baseline");
}

}  // namespace svdllm
