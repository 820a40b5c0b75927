#include <sys/stat.h>

#include "model/tokenizer.h"
#include "pipeline/perplexity.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"

namespace svdllm {

absl::Status CheckEvaluate(const EvaluateSpec& spec) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  for (size_t i = 0; i < spec.perplexities.size(); ++i) {
    const std::string where = "tasks[" + std::to_string(i) + "]";
    RETURN_IF_ERROR(
        ResolveSeqLen(spec.perplexities[i].seq_len, checkpoint.config(), where + ".seq_len")
            .status());
    struct stat info;
    const std::string& path = spec.perplexities[i].text.path;
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      return MakeError(absl::StatusCode::kNotFound, kDatasetInvalid,
                       where + ".dataset: " + path + ": no such file");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<EvaluateResult> RunEvaluate(const EvaluateSpec& spec, Backend& backend,
                                           const RunHooks& hooks) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(spec.model_dir));
  std::vector<EvaluationData> data;
  for (PerplexitySpec task : spec.perplexities) {
    ASSIGN_OR_RETURN(task.seq_len,
                     ResolveSeqLen(task.seq_len, checkpoint.config(), task.name + ": seq_len"));
    ASSIGN_OR_RETURN(EvaluationData windows, CutWindows(task, tokenizer));
    data.push_back(std::move(windows));
  }
  RunLog log(hooks, PerplexityFlops(checkpoint, WorkloadOf(data)), checkpoint.config().num_layers);
  log.Enter("evaluate");
  EvaluateResult result;
  result.parameters = checkpoint.parameters();
  result.weight_bytes = checkpoint.weight_bytes();
  for (const EvaluationData& windows : data) {
    ASSIGN_OR_RETURN(PerplexityResult perplexity,
                     MeasurePerplexity(checkpoint, windows, backend, log));
    result.perplexities.push_back(std::move(perplexity));
  }
  result.peak_host_bytes = PeakResidentBytes();
  result.device = backend.Name();
  return result;
}

}  // namespace svdllm
