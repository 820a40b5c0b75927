#include "report/page.h"

#include "report/assets.h"
#include "report/page_data.h"
#include "report/template.h"

namespace svdllm {

std::string CompressionHtml(const CompressSpec& spec, const CompressResult& job,
                            const ArtifactResult& artifact) {
  return RenderHtml(kReportTemplate, CompressionData(spec, job, artifact));
}

std::string EvaluationHtml(const EvaluateSpec& spec, const EvaluateResult& result) {
  return RenderHtml(kEvaluationTemplate, EvaluationData(spec, result));
}

}  // namespace svdllm
